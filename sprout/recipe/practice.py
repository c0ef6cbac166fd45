"""The last stage: reinforcement of what the model can do now and then. Read `run_reinforce` first."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from sprout.common.compute import Compute
from sprout.common.hashing import stable_hash
from sprout.data import (
    batch_rows,
    get_batch,
    world_problems,
)
from sprout.engine import Engine, Prompt, Sampling, generate_shared, native
from sprout.evals import evaluate_skills, problems_for
from sprout.model import GPTConfig
from sprout.model.count import cache_bytes_per_token, parameters
from sprout.optim import OptimConfig
from sprout.optim import world as processes
from sprout.recipe.config import Session
from sprout.recipe.plan import loop_config
from sprout.recipe.samples import Samples
from sprout.recipe.sources import feed, fits
from sprout.recipe.stages import check_problem, checkpoint_folder, done, finish, take_up
from sprout.rl import ReinforceConfig, reinforce
from sprout.train import make_gradients
from sprout.train.loop import backward_step
from sprout.train.memory import training_bytes
from sprout.world import Problem
from sprout.world.skills import SKILLS

GROUPS, REPLIES = 24, 8  # problems of a step, and tries at each


def reinforce_bytes(shape: GPTConfig, compute: Compute, rows: int, recompute: bool = False) -> int:
    """About the most memory that reinforcement by the C core takes at a time, were every reply to fill its context: what
    training takes, the weights of the beginning (kept, and as a model), those of two engines, gradients of the rehearsal, and
    the cache."""
    weights = 4 * parameters(shape)
    cache = GROUPS * REPLIES * shape.context * cache_bytes_per_token(shape, native.kept(torch.device("cpu")).itemsize)
    return training_bytes(shape, compute, rows, recompute) + 5 * weights + cache


def where_tries_differ(s: Session, engine: Engine, problems: int = 16, tries: int = 8) -> list[str]:
    """The skills, first those whose tries at one problem come out most differently (p (1 - p), averaged over validation
    problems): where all are right or all are wrong, a comparison within the group teaches nothing."""
    asked = [p for p in problems_for(s.world, list(SKILLS), problems, "validation") if fits(s, p)]
    sampling = Sampling(1.0, max_tokens=130, seed=stable_hash(s.config.seed, "tries") % 2**31)
    completions = generate_shared(engine, [Prompt(p.prompt, p.tools) for p in asked for _ in range(tries)], sampling)
    spread: dict[str, list[float]] = {}
    for i, problem in enumerate(asked):
        mine = completions[i * tries : (i + 1) * tries]
        right = sum(check_problem(problem, c.messages).right and c.finish == "stop" for c in mine) / tries
        spread.setdefault(problem.skill, []).append(right * (1 - right))
    return sorted(spread, key=lambda k: -sum(spread[k]) / len(spread[k]))


def rehearsal(s: Session, steps: int) -> Callable[[int], None]:
    """A function that adds to the model's gradients those of two batches of finetuning, others every step."""
    config = loop_config(s, "finetune", steps)
    count = 2 * config.rows
    data = feed(s, "finetune", steps * count * s.config.context)

    def rehearse(step: int) -> None:
        rank, size = processes()
        rows = batch_rows(len(data), count, step, stable_hash(config.seed, "rehearsal") % 2**31)
        before, s.model.dtype = s.model.dtype, s.compute.dtype
        backward_step(s.gradients, get_batch(data, rows[rank::size], s.compute.device), config.micro_rows)
        s.model.dtype = before

    return rehearse


def run_reinforce(s: Session) -> None:
    """Reinforce the skill where it can teach most, GSM8K where it is given, and rehearse the others beside it."""
    if done(s, "reinforce"):
        s.say("reinforce: done before")
        s.journal.done("reinforce")
        return
    began = time.perf_counter()
    take_up(s, "reinforce")
    s.journal.stage("reinforce", s.plan.reinforce)
    s.journal.evaluating("reinforce")
    engine = Engine(s.model, s.tokenizer, s.toolbox)
    gsm8k = s.local["gsm8k"]
    chosen: list[str] = []
    held_out: list[Problem] = []
    sources: list[Iterator[Problem]] = []
    if s.config.uses_world:
        chosen = where_tries_differ(s, engine)[:1]
        held_out = problems_for(s.world, chosen, 3 * s.config.eval_problems, "test")
        endless = world_problems(s.world, stable_hash(s.config.seed, "reinforce"), "train", chosen)
        sources.append(p for p in endless if fits(s, p))
    if gsm8k:
        chosen = [*chosen, "gsm8k"]
        held_out += gsm8k["test"][: s.config.eval_problems]
        sources.append(itertools.cycle(random.Random(s.config.seed).sample(gsm8k["train"], len(gsm8k["train"]))))
    problems = (p for turn in zip(*sources, strict=False) for p in turn)  # turn by turn where there are both
    if not sources:
        s.say("reinforce: skipped, no skill here has a checkable answer (give --tasks with GSM8K, or --with-world)")
        finish(
            s,
            "reinforce",
            began,
            {"steps": 0, "tokens": 0, "curve": [], "rl": [], "warnings": ["nothing to reinforce"], "dropped": {}},
        )
        return
    s.say(f"reinforce: practising {', '.join(chosen)}")

    able = [p for p in held_out if fits(s, p)]

    def held_out_scores() -> dict[str, dict[str, Any]]:
        """Held-out problems answered the way they are practised, by sampling, and with the likeliest reply."""
        sampled, likeliest = (evaluate_skills(engine, able, check=check_problem, temperature=t).scores for t in (1.0, 0.0))
        return {name: {"sampled": sampled[name].plain(), "likeliest": likeliest[name].plain()} for name in sampled}

    before = held_out_scores()
    d = s.dial
    optim = OptimConfig(d.matrix_lr * 0.35, d.embed_lr * 0.14, d.head_lr * 0.35, 0.0, dtype=s.compute.dtype, kernels=s.compute.kernels)
    config = ReinforceConfig(s.plan.reinforce, GROUPS, REPLIES, 130, 1.0, stable_hash(s.config.seed, "rl") % 10_000, optim)
    samples = Samples(s, "reinforce") if s.watched else None
    # By torch in float32, and nothing is compiled, since lengths differ.
    log = reinforce(
        s.model, s.tokenizer, s.toolbox, problems, check_problem, config, checkpoint_folder(s, "reinforce"), s.say,
        rehearsal(s, s.plan.reinforce), s.journal, samples.now_and_then if samples else None,
        s.gradients if s.compute.kernels == "c" else make_gradients(s.model, replace(s.compute, dtype=torch.float32, compile=False)),
    )  # fmt: skip
    if samples:
        samples.take(s.plan.reinforce)
    s.journal.evaluating("reinforce")
    tokens = int(sum(e["length"] for e in log) * config.groups * config.replies)
    record: dict[str, Any] = {"steps": s.plan.reinforce, "tokens": tokens, "curve": [], "rl": log, "rl_skills": chosen, "dropped": {},
              "warnings": [], "seconds": log[-1]["seconds"] if log else 0.0}  # fmt: skip
    after = held_out_scores()
    record["rl_gains"] = {k: {"before": before[k], "after": after[k]} for k in before}
    finish(s, "reinforce", began, record)
