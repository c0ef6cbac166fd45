"""A stage: whether it is done, its training, its evaluation, and the folder it leaves. Read `run_stage` first."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import sprout
from sprout.common.errors import UserError
from sprout.common.files import read_json, write_json
from sprout.common.hashing import stable_hash
from sprout.common.processes import on_first, weights_from_first
from sprout.data import Packed, Stream
from sprout.data.gsm8k import check_gsm8k
from sprout.engine import Engine, Sampling, generate_shared
from sprout.evals import bits_per_byte, evaluate_skills, problems_for
from sprout.model import GPT
from sprout.model.count import flops_per_token, parameters
from sprout.model.hf import load_hf, save_hf
from sprout.recipe.config import STAGES, Session
from sprout.recipe.plan import loop_config
from sprout.recipe.samples import Samples, sample_prompts, spoken
from sprout.recipe.sources import feed, fits, source, talks_at_all
from sprout.tokenizer import Tokenizer
from sprout.train import train
from sprout.train.pairs import learn_pairs
from sprout.world import Problem, Reply, Verdict
from sprout.world.skills import SKILLS


@functools.cache  # what runs is what was loaded, whatever is edited meanwhile
def code_version() -> str:
    """A hash of the source that decides what a stage gives."""
    root = Path(sprout.__file__).parent
    parts = [p.read_text(encoding="utf-8") for d in ("common", "world", "tokenizer", "model", "optim", "data", "train", "engine", "rl", "recipe")
             for p in sorted((root / d).rglob("*.[pch]*")) if p.suffix in (".py", ".c", ".h")]  # fmt: skip
    return f"{stable_hash(*parts):016x}"


def stage_key(s: Session, stage: str) -> str:
    """What went into a stage: config, data, code, and the stages before."""
    left_out = ("run", "minutes", "eval_problems", "threads", "stream")  # the fingerprint knows whether text streams
    config = {k: v for k, v in asdict(s.config).items() if k not in left_out}
    before = STAGES[: STAGES.index(stage) + 1]
    return f"{stable_hash(config, [getattr(s.plan, b) for b in before], s.tokenizer.fingerprint, s.local['fingerprint'], code_version(), stage):016x}"


def done(s: Session, stage: str) -> bool:
    """Whether the run holds this stage, whole and made from the same things. Raises UserError for one of another run."""
    return on_first(lambda: _done(s, stage))


def _done(s: Session, stage: str) -> bool:
    folder = s.stage_folder(stage)
    if not (folder / "stage.json").is_file():
        return False
    try:
        key = read_json(folder / "stage.json").get("key")
        other = "tokenizer" if Tokenizer.load(folder).fingerprint != s.tokenizer.fingerprint else ""
        if not other and load_hf(folder)[0].config != s.model.config:
            other = "size"
    except UserError as error:
        s.say(f"{stage}: what is there is damaged, the stage is done again ({error})")
        return False
    if other:
        raise UserError(
            f"{folder} holds a model of another {other} than this run's. Nothing was changed; put back what was there, or "
            "give another --run."
        )
    if key != stage_key(s, stage):
        s.say(f"{stage}: what is there was made by another version of the code, the stage is done again")
    return key == stage_key(s, stage)


def checkpoint_folder(s: Session, stage: str) -> Path:
    return s.config.run / "checkpoints" / f"{stage}-{stage_key(s, stage)[:8]}"


def take_up(s: Session, stage: str) -> None:
    """Start from the weights of the stage before."""
    at = STAGES.index(stage)

    def load() -> None:
        before = load_hf(s.stage_folder(STAGES[at - 1]))[0] if at else GPT(s.model.config, s.config.seed)
        s.model.load_state_dict(before.state_dict())

    on_first(load)
    weights_from_first(s.model)


def begin_with_pairs(s: Session, data: Packed | Stream) -> None:
    """Where documents are all there is, and in memory, what stands behind what is learned before the first step. Not where there
    are conversations: copying what was said comes first there, and pairs make the instinct for it worse (LOG.md)."""
    begun = on_first(lambda: any(checkpoint_folder(s, "pretrain").glob("step_*")))
    if begun or talks_at_all(s) or not isinstance(data, Packed):
        return
    on_first(lambda: learn_pairs(s.model, data))
    weights_from_first(s.model)


def check_problem(problem: Problem, reply: Reply) -> Verdict:
    """The checker of the problem's skill, GSM8K included."""
    return check_gsm8k(problem, reply) if problem.skill == "gsm8k" else SKILLS[problem.skill].check(problem, reply)


def evaluate(s: Session, stage: str) -> dict[str, Any]:
    """Bits per byte of held-out text, every skill on held-out problems, and the same prompts answered as ever."""
    s.say(f"{stage}: evaluating")
    s.journal.evaluating(stage)
    engine = Engine(s.model, s.tokenizer, s.toolbox)
    found: dict[str, Any] = {}
    validation = feed(s, "pretrain", 40_000, "validation")
    dtype, s.model.dtype = s.model.dtype, torch.float32
    found["val_bpb"] = bits_per_byte(s.model, validation, s.tokenizer)
    s.model.dtype = dtype
    problems = problems_for(s.world, list(SKILLS), s.config.eval_problems, "test") if s.config.uses_world else []
    problems += s.local["gsm8k"].get("test", [])[: s.config.eval_problems]
    problems = [p for p in problems if fits(s, p)]
    if problems:
        # A model that never saw the chat format does not end its replies: fewer tokens will do to see that.
        results = evaluate_skills(engine, problems, 24 if stage == "pretrain" else 130, check=check_problem)
        found["skills"] = {name: score.plain() for name, score in results.scores.items()}
        if results.made_up.n:
            found["made_up"] = results.made_up.plain()
        found["mistakes"] = results.mistakes
    prompts = [p for p in sample_prompts(s) if engine.room(p) > 0]
    replies = generate_shared(engine, prompts, Sampling(max_tokens=100))
    found["samples"] = [
        {"prompt": p.messages[-1].content, "reply": spoken(c.messages)} for p, c in zip(prompts, replies, strict=True)
    ]
    return found


def finish(s: Session, stage: str, began: float, record: dict[str, Any]) -> None:
    """Evaluate, write the stage's Hugging Face folder and, last, its stage.json, which says that it is done."""
    trained = time.perf_counter() - began
    record = {"stage": stage, "key": stage_key(s, stage), "seconds": record.pop("seconds", trained), **record}
    record["tokens_per_s"] = record["tokens"] / max(1e-9, record["seconds"])
    record["parameters"] = parameters(s.model.config)
    record["flops_per_token"] = flops_per_token(s.model.config)
    record |= evaluate(s, stage)
    record["eval_seconds"] = time.perf_counter() - began - trained
    folder = s.stage_folder(stage)

    def write() -> None:
        (folder / "stage.json").unlink(missing_ok=True)
        save_hf(s.model, s.tokenizer, folder)
        write_json(folder / "stage.json", record)

    on_first(write)
    mean = None
    if record.get("skills"):
        mean = sum(v["rate"] for v in record["skills"].values()) / len(record["skills"])
    s.journal.done(stage, mean, record["val_bpb"], record["seconds"])
    if mean is not None:
        s.say(f"{stage}: {record['val_bpb']:.3f} bits per byte, {mean:.1%} of held-out problems right")
    else:
        s.say(f"{stage}: {record['val_bpb']:.3f} bits per byte")


def run_stage(s: Session, stage: str) -> None:
    """Pretrain, midtrain or finetune, unless it is done."""
    if done(s, stage):
        s.say(f"{stage}: done before")
        s.journal.done(stage)
        return
    began = time.perf_counter()
    take_up(s, stage)
    steps = getattr(s.plan, stage)
    s.journal.stage(stage, steps)
    config = loop_config(s, stage, steps)
    data = source(s, stage, steps, config.rows, checkpoint_folder(s, stage))
    if stage == "pretrain":
        begin_with_pairs(s, data)
    made = time.perf_counter() - began
    samples = Samples(s, stage) if s.watched else None
    curve = train(
        s.model, s.gradients, data, config, checkpoint_folder(s, stage), stage, s.compute, s.say, s.journal,
        samples.now_and_then if samples else None,
    )  # fmt: skip
    if samples:
        samples.take(steps)
    tokens = steps * config.rows * s.config.context
    record = {"steps": steps, "tokens": tokens, "curve": curve, "dropped": dict(data.dropped), "data_seconds": made,
              "seconds": curve[-1]["seconds"] if curve else 0.0,
              "warnings": s.local["warnings"] if stage == "pretrain" else []}  # fmt: skip
    if isinstance(data, Stream):
        record["dropped"] |= {f"while reading: {rule}": n for rule, n in s.local["dropped"].items()}
        record |= {"data_wait_seconds": data.waited, "data_first_wait_seconds": data.first_wait}
        if data.waited > 0.05 * record["seconds"]:
            s.say(f"note: {stage} waited {data.waited:.0f} of {record['seconds']:.0f} s for text: it can't be read faster from "
                  "where it lies")  # fmt: skip
    finish(s, stage, began, record)
