"""The recipe: from nothing to a chat, every stage in order. `grow` is the page to read first."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import sprout
from sprout.common.compute import Compute, apply, decide, free_memory
from sprout.common.errors import UserError
from sprout.common.files import check_folder, read_json, write_json
from sprout.engine import toolbox_for
from sprout.journal import Journal
from sprout.model import GPT
from sprout.model.count import parameters
from sprout.model.dial import dial
from sprout.recipe import (
    REINFORCE_STEP,
    STAGES,
    GrowConfig,
    Plan,
    Say,
    Session,
    check_lengths,
    done,
    evaluation_seconds,
    make_plan,
    make_tokenizer,
    read_local,
    run_reinforce,
    run_stage,
)
from sprout.report import build_report
from sprout.tokenizer import native
from sprout.train import make_gradients
from sprout.train.memory import fitting
from sprout.watch import Page, check_port
from sprout.world import build_world


def grow(config: GrowConfig, serve: bool = False, port: int = 8000) -> int:
    """Grow a model: read or make its world, learn a tokenizer, pretrain, midtrain, finetune, reinforce, report. With
    `serve` the page shows it meanwhile, and stays when it is grown."""
    say: Say = print
    began = time.perf_counter()
    if serve:
        check_port(port)
    s = open_session(config, say)
    s.watched = serve
    with Page(config.run, port, say) if serve else nullcontext() as page:
        with s.journal:
            for stage in STAGES[:3]:
                run_stage(s, stage)
            run_reinforce(s)
            build_report(config.run)
            s.journal.grown()
        say_grown(config.run, time.perf_counter() - began, say)
        if page:
            page.stay()
    return 0


def say_grown(run: Path, seconds: float, say: Say) -> None:
    """What there is now, and what to do with it."""
    say(f"\ngrown in {seconds / 60:.1f} minutes. The report: {run / 'report.html'}")
    # Where there is no `sprout` on the path (after `make grow`), name the one that was called.
    sprout_command = sys.argv[0] if Path(sys.argv[0]).name == "sprout" and not shutil.which("sprout") else "sprout"
    say(f"Talk to it:  {sprout_command} chat --model {run}")


def run_single(stage: str, config: GrowConfig) -> int:
    """One stage of a run, on top of those before it, which must be there."""
    s = open_session(config, print)
    at = STAGES.index(stage)
    if at and not done(s, STAGES[at - 1]):
        raise UserError(
            f"{stage} builds on {STAGES[at - 1]}, which {config.run} does not hold yet; run: sprout {STAGES[at - 1]}"
        )
    with s.journal:
        if stage == "reinforce":
            run_reinforce(s)
        else:
            run_stage(s, stage)
        s.journal.stopped(f"{stage} was all that was asked for")
    return 0


def open_session(config: GrowConfig, say: Say) -> Session:
    """Everything up to the first stage. A run folder belongs to one configuration; another is refused."""
    began = time.perf_counter()
    compute = decide(config.device, config.compile, config.threads, config.kernels, config.attention)
    apply(compute)
    say(compute.say() + "\n" + native.say())
    check_folder(config.run)
    shape = dial(config.depth, config.vocab_size, config.context, config.tokens or None, config.batch_tokens).shape
    rows = max(1, config.batch_tokens // config.context)
    planning = not config.tokens and not (config.run / "plan.json").is_file()
    recompute, line = fitting(shape, compute, rows, config.recompute, free_memory(compute.device), planning)
    say(line)
    local = read_local(config, say)
    free_to_change = ("run", "threads", "eval_problems", "stream", "recompute", "attention")
    ours = {k: str(v) for k, v in asdict(config).items() if k not in free_to_change}
    if config.text or config.chat or config.tasks:
        ours["data"] = local["fingerprint"]
    path = config.run / "grow.json"
    theirs = read_json(path) if path.is_file() else {}
    if local["corpus"] or "streamed" in theirs:
        ours["streamed"] = str(local["corpus"] is not None)
    if theirs:
        check_same(config.run, ours, theirs)
    world = build_world(config.world)
    tokenizer = make_tokenizer(config, world, local, say)
    ours["tokenizer"] = tokenizer.fingerprint
    if theirs.get("tokenizer", ours["tokenizer"]) != ours["tokenizer"]:
        raise UserError(
            f"{config.run / 'tokenizer'} holds another tokenizer than the one this run was begun with. Nothing was changed; "
            "put back what was there (every stage's folder holds a copy), or give another --run."
        )
    d = dial(config.depth, tokenizer.vocab_size, config.context, config.tokens or None, config.batch_tokens)
    model = GPT(d.shape, config.seed).to(compute.device)
    model.dtype, model.attention, model.recompute = compute.dtype, compute.attention, recompute
    s = Session(config, compute, world, tokenizer, d, model, make_gradients(model, compute), toolbox_for(world if config.uses_world else None),
                Plan(0, 0, 0, 0, 0.0), say, local, Journal(config.run / "live.jsonl", say, fresh=not theirs))  # fmt: skip
    check_lengths(s)
    plan_path = config.run / "plan.json"
    if plan_path.is_file():
        try:
            s.plan = Plan(**read_json(plan_path))
        except TypeError as error:
            raise UserError(f"{plan_path} is damaged ({error}); restore it, or give another --run.") from error
    else:
        s.plan = make_plan(s, began)
        write_json(path, ours)
        if config.uses_world:
            write_json(config.run / "world.json", asdict(config.world))
        write_json(config.run / "machine.json", machine(compute))
        write_json(plan_path, asdict(s.plan))
    tokens_per_step = max(1, config.batch_tokens // config.context) * config.context
    s.journal.planned(asdict(s.plan), tokens_per_step, evaluation_seconds(config), REINFORCE_STEP)
    say(f"a model of {parameters(d.shape):,} parameters: {d.shape.layers} layers of width {d.shape.width}")
    say(f"the plan: {s.plan.pretrain} steps of pretraining, {s.plan.midtrain} of midtraining, {s.plan.finetune} of finetuning, "
        f"{s.plan.reinforce} of reinforcement, {config.batch_tokens} tokens a step")  # fmt: skip
    return s


def check_same(run: Path, ours: dict[str, str], theirs: dict[str, str]) -> None:
    """Raise UserError where a run was begun with other options, or with files of other content."""
    different = [k for k in ours if theirs.get(k) != ours[k]]
    if different == ["data"]:
        raise UserError(
            f"the files behind --text, --chat or --tasks are not those that {run} was grown from: their content has changed "
            "since. Nothing was changed; put back what was there, or give another --run."
        )
    if different:
        raise UserError(
            f"{run} was grown with another {', '.join(different)} "
            f"({', '.join(f'{k}: {theirs.get(k)} there, {ours[k]} here' for k in different)}). "
            "Nothing was changed; give the same options again, or another --run."
        )


def machine(compute: Compute) -> dict[str, Any]:
    """Where this ran, and on what."""

    def git(*words: str) -> str:
        try:
            return subprocess.run(
                ["git", *words], capture_output=True, text=True, timeout=10, cwd=Path(sprout.__file__).parent
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""

    return {
        "platform": platform.platform(), "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "threads": compute.threads, "python": platform.python_version(), "torch": torch.__version__, "sprout": sprout.__version__,
        "decisions": list(compute.reasons), "git": git("rev-parse", "HEAD"), "git_changed": bool(git("status", "--porcelain")),
    }  # fmt: skip
