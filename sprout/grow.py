"""The recipe: from nothing to a chat, every stage in order. `grow` is the page to read first."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import sprout
from sprout.common.compute import Compute, agree, apply, decide, free_memory
from sprout.common.errors import UserError
from sprout.common.files import check_folder, read_json, write_json
from sprout.common.processes import Place, from_first, gathered, is_first, on_first, place_of
from sprout.common.together import Together
from sprout.data import Border, open_corpus
from sprout.engine import native as decoder
from sprout.engine import toolbox_for
from sprout.journal import Journal, NoJournal
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
    code_version,
    done,
    evaluation_seconds,
    make_plan,
    make_tokenizer,
    read_local,
    reinforce_bytes,
    run_reinforce,
    run_stage,
)
from sprout.report import build_report
from sprout.tokenizer import Tokenizer, native
from sprout.train import make_gradients
from sprout.train.memory import fitting
from sprout.watch import Page, check_port
from sprout.world import World, build_world


def grow(config: GrowConfig, serve: bool = False, port: int = 8000) -> int:
    """Grow a model: read or make its world, learn a tokenizer, pretrain, midtrain, finetune, reinforce, report. With
    `serve` the page shows it meanwhile, and stays when it is grown. Under torchrun every process runs this."""
    began = time.perf_counter()
    if serve and place_of().rank == 0:
        check_port(port)
    with opened(config) as (s, together), Page(config.run, port, s.say) if serve and is_first() else nullcontext() as page:
        s.watched = page is not None
        with s.journal:
            for stage in STAGES[:3]:
                run_stage(s, stage)
            run_reinforce(s)
            on_first(lambda: build_report(config.run))
            s.journal.grown()
        together.part()
        say_grown(config.run, time.perf_counter() - began, s.say)
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
    with opened(config) as (s, _):
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


@contextmanager
def opened(config: GrowConfig) -> Iterator[tuple[Session, Together]]:
    """The session of this process, together with those of the others where torchrun started several."""
    place = place_of()
    say: Say = print if place.rank == 0 else lambda text: None
    with Together(place, lambda: how_to_go_on(config.run, place)) as together:
        compute = decide(config.device, config.compile, config.threads, config.kernels, config.attention, place, config.products)
        apply(compute)
        together.join(compute.backend)
        s = open_session(config, agree(compute), say)
        together.last_words = s.journal.stopped
        yield s, together


def how_to_go_on(run: Path, place: Place) -> str:
    """Where the run stands, as far as this host sees its folder, and the command that goes on from there."""
    saved = sorted((run / "checkpoints").glob("*/step_*"), key=lambda path: path.stat().st_mtime)
    at = f" ({saved[-1].parent.name.rpartition('-')[0]}, step {int(saved[-1].name[5:])})" if saved else ""
    several = ["--nnodes", f"{place.hosts}", "--node-rank", f"{place.host}", "--master-addr", place.address, "--master-port", f"{place.port}"]  # fmt: skip
    words = ["torchrun", *(several if place.hosts > 1 else []), "--nproc-per-node", f"{place.local_size}", "-m", "sprout", "--", *sys.argv[1:]]  # fmt: skip
    return f"What was saved is intact{at}. The same command goes on from there, with any number of processes: {shlex.join(words)}"


def open_session(config: GrowConfig, compute: Compute, say: Say) -> Session:
    """Everything up to the first stage. A run folder belongs to one configuration; another is refused. Of several processes
    only the first reads and writes files, and tells the others what they need; a collective."""
    began = time.perf_counter()
    say("\n".join((compute.say(), native.say(), decoder.say())))
    place = place_of()
    check_alike(config)
    on_first(lambda: check_folder(config.run))
    shape = dial(config.depth, config.vocab_size, config.context, config.tokens or None, config.batch_tokens).shape
    rows = -(-max(1, config.batch_tokens // config.context) // place.size)
    planning = from_first(not config.tokens and not (config.run / "plan.json").is_file())
    free = free_memory(compute.device)
    if free is not None and compute.device != "cuda":
        free //= place.local_size
    recompute, line = fitting(shape, compute, rows, config.recompute, free, planning)
    say(line)
    if compute.kernels == "c" and config.rl_steps and (config.uses_world or config.tasks):
        most = reinforce_bytes(shape, compute, rows, recompute)
        say(f"reinforcement takes up to about {most / 1e9:.2f} GB{': it may not fit' if free is not None and most > free else ''}")
    world = build_world(config.world)
    kept: list[Begun] = []

    def begin() -> Begun:
        kept.append(read_run(config, world, say))
        return kept[0].without_texts()

    begun = on_first(begin)
    begun = kept[0] if kept else begun.with_corpus(config)
    d = dial(config.depth, begun.tokenizer.vocab_size, config.context, config.tokens or None, config.batch_tokens)
    model = GPT(d.shape, config.seed).to(compute.device)
    model.dtype, model.attention, model.recompute = compute.dtype, compute.attention, recompute
    journal = (Journal if is_first() else NoJournal)(config.run / "live.jsonl", say, fresh=not begun.before)
    s = Session(config, compute, world, begun.tokenizer, d, model, make_gradients(model, compute), toolbox_for(world if config.uses_world else None),
                begun.plan or Plan(0, 0, 0, 0, 0.0), say, begun.local, journal)  # fmt: skip
    check_lengths(s)
    if begun.plan is None:
        s.plan = from_first(make_plan(s, began))

        def write() -> None:
            write_json(config.run / "grow.json", begun.options)
            if config.uses_world:
                write_json(config.run / "world.json", asdict(config.world))
            write_json(config.run / "machine.json", machine(compute, place))
            write_json(config.run / "plan.json", asdict(s.plan))

        on_first(write)
    tokens_per_step = max(1, config.batch_tokens // config.context) * config.context
    s.journal.planned(asdict(s.plan), tokens_per_step, evaluation_seconds(config), REINFORCE_STEP)
    say(f"a model of {parameters(d.shape):,} parameters: {d.shape.layers} layers of width {d.shape.width}")
    say(f"the plan: {s.plan.pretrain} steps of pretraining, {s.plan.midtrain} of midtraining, {s.plan.finetune} of finetuning, "
        f"{s.plan.reinforce} of reinforcement, {config.batch_tokens} tokens a step")  # fmt: skip
    return s


@dataclass(frozen=True, slots=True)
class Begun:
    """What the run's folder and the user's files hold: the texts, the tokenizer, this run's options as grow.json has them,
    whether they stood there before, and the plan, where there is one."""

    local: dict[str, Any]
    tokenizer: Tokenizer
    options: dict[str, str]
    before: bool
    plan: Plan | None
    streams: object = None  # the fingerprint of the text that streams

    def without_texts(self) -> Begun:
        """For the processes that make no rows: all but the texts and conversations."""
        none: dict[str, list[Any]] = {split: [] for split in ("train", "validation")}
        left = {"texts": none, "chats": none, "chats_elsewhere": bool(self.local["chats"]["train"])}
        return replace(self, local={**self.local, **left, "corpus": True if self.local["corpus"] else None})

    def with_corpus(self, config: GrowConfig) -> Begun:
        """What streams is read by every process for itself: its files have to be there on every host. Raises UserError
        where they are others."""
        if not self.local["corpus"]:
            return self
        corpus = open_corpus(config.text, Border(config.strict, lambda text: None))
        if corpus.fingerprint != self.streams:
            raise UserError(
                f"{', '.join(config.text)} isn't the same here as on the first host. Text that streams is read by every host: "
                "put the same files there."
            )
        return replace(self, local={**self.local, "corpus": corpus})


def read_run(config: GrowConfig, world: World, say: Say) -> Begun:
    """Read the user's files and the run's folder, and learn the tokenizer where there is none."""
    local = read_local(config, say)
    free_to_change = ("run", "threads", "eval_problems", "stream", "recompute", "attention", "products")
    ours = {k: str(v) for k, v in asdict(config).items() if k not in free_to_change}
    if config.text or config.chat or config.tasks:
        ours["data"] = local["fingerprint"]
    path = config.run / "grow.json"
    theirs = read_json(path) if path.is_file() else {}
    if local["corpus"] or "streamed" in theirs:
        ours["streamed"] = str(local["corpus"] is not None)
    if theirs:
        check_same(config.run, ours, theirs)
    tokenizer = make_tokenizer(config, world, local, say)
    ours["tokenizer"] = tokenizer.fingerprint
    if theirs.get("tokenizer", ours["tokenizer"]) != ours["tokenizer"]:
        raise UserError(
            f"{config.run / 'tokenizer'} holds another tokenizer than the one this run was begun with. Nothing was changed; "
            "put back what was there (every stage's folder holds a copy), or give another --run."
        )
    plan, plan_path = None, config.run / "plan.json"
    if plan_path.is_file():
        try:
            plan = Plan(**read_json(plan_path))
        except TypeError as error:
            raise UserError(f"{plan_path} is damaged ({error}); restore it, or give another --run.") from error
    corpus = local["corpus"]
    return Begun(local, tokenizer, ours, bool(theirs), plan, corpus.fingerprint if corpus else None)


def check_alike(config: GrowConfig) -> None:
    """That all processes were started with the same options and run the same code; a collective. Raises UserError."""
    options = {k: str(v) for k, v in asdict(config).items() if k not in ("run", "threads")}
    mine = {**options, "sprout": sprout.__version__, "the code": code_version(), "torch": torch.__version__}
    for rank, theirs in enumerate(gathered(mine)):
        if different := [k for k in mine if theirs.get(k) != mine[k]]:
            raise UserError(
                f"process {rank} has another {', '.join(different)} "
                f"({', '.join(f'{k}: {theirs.get(k)} there, {mine[k]} here' for k in different)}). "
                "Start every host with the same command and the same installation."
            )


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


def machine(compute: Compute, place: Place) -> dict[str, Any]:
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
        "threads": compute.threads, "processes": place.size, "hosts": place.hosts, "python": platform.python_version(), "torch": torch.__version__, "sprout": sprout.__version__,
        "decisions": list(compute.reasons), "git": git("rev-parse", "HEAD"), "git_changed": bool(git("status", "--porcelain")),
    }  # fmt: skip
