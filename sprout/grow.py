"""The recipe: from nothing to a chat, every stage in order. `grow` at the bottom is the page to read first."""

from __future__ import annotations

import functools
import itertools
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sprout
from sprout.common.compute import Compute, apply, decide, free_memory
from sprout.common.errors import UserError
from sprout.common.files import check_folder, read_json, write_json
from sprout.common.hashing import stable_hash
from sprout.common.messages import Message
from sprout.data import (
    Border,
    Packed,
    batch_rows,
    check_memory,
    conversation_items,
    document_items,
    get_batch,
    local_conversations,
    local_texts,
    pack,
    problem_items,
    train_and_validation,
    world_problems,
    world_retellings,
    world_texts,
)
from sprout.data.gsm8k import check_gsm8k, load_gsm8k
from sprout.data.packing import fit
from sprout.engine import Engine, Prompt, Sampling, Toolbox, toolbox_for
from sprout.evals import bits_per_byte, evaluate_skills, problems_for
from sprout.model import GPT
from sprout.model.count import flops_per_token, parameters, training_bytes
from sprout.model.dial import Dial, dial
from sprout.model.hf import load_hf, save_hf
from sprout.optim import OptimConfig, Optimizer
from sprout.optim import world as processes
from sprout.report import build_report
from sprout.rl import ReinforceConfig, reinforce
from sprout.tokenizer import Tokenizer, render
from sprout.tokenizer.chat import with_tools
from sprout.train import LoopConfig, LossFunction, make_loss, train
from sprout.train.loop import backward_step
from sprout.world import Problem, Reply, Verdict, World, WorldConfig, build_world
from sprout.world.skills import SKILLS

RETOLD = 0.1  # share of the conversations that tell again what the documents told
STAGES = ("pretrain", "midtrain", "finetune", "reinforce")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class GrowConfig:
    """What to grow. Without `text` or `chat` it is the built-in world."""

    run: Path = Path("runs/default")
    """where everything goes; the same command again goes on where it stopped"""
    depth: int = 4
    """the one dial: layers, and with them width, learning rates, batch and weight decay"""
    minutes: float = 14.0
    """time for everything on this machine; turned into a fixed number of steps at the start"""
    tokens: int = 0
    """train on this many tokens instead, whatever the time (then the plan is the same on every machine)"""
    text: tuple[str, ...] = ()
    """files or folders of .txt, .md, .jsonl, .parquet, or the name of a Hugging Face data set"""
    chat: tuple[str, ...] = ()
    """files or folders of conversations (.jsonl, .json)"""
    tasks: Path | None = None
    """a folder with gsm8k/train.jsonl and test.jsonl: a skill then, trained by reinforcement too, and evaluated"""
    with_world: bool = False
    """mix the built-in world into text and chat of your own"""
    vocab_size: int = 1536
    """tokens of the tokenizer"""
    context: int = 256
    """tokens the model reads at once"""
    batch_tokens: int = 4096
    """tokens a step"""
    seed: int = 1
    """of weights, batches and luck; another seed, another model"""
    world: WorldConfig = field(default_factory=WorldConfig)
    eval_problems: int = 200
    """held-out problems per skill after every stage"""
    rl_steps: int = -1
    """steps of reinforcement; -1 lets the time decide"""
    device: str = "auto"
    """cpu, cuda, mps or auto"""
    compile: str = "auto"
    """on, off or auto"""
    threads: int = 0
    """0 takes all cores that are free to us"""
    strict: bool = False
    """stop at the first bad line, or bad file of a folder, instead of skipping and counting it"""

    def __post_init__(self) -> None:
        if not 0 < self.minutes < 1e6:
            raise UserError(f"minutes is {self.minutes}; expected more than 0.")
        for name, least in (("tokens", 0), ("threads", 0), ("rl_steps", -1), ("eval_problems", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if self.context < 32:
            raise UserError(f"context is {self.context}; expected at least 32 tokens.")
        if self.batch_tokens < self.context:
            raise UserError(
                f"batch_tokens is {self.batch_tokens}, less than one row of {self.context} tokens; take more."
            )
        if self.compile not in ("auto", "on", "off"):
            raise UserError(f"compile is {self.compile!r}; expected on, off or auto.")

    @property
    def uses_world(self) -> bool:
        return self.with_world or not (self.text or self.chat)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps of every stage, fixed at the start and kept in plan.json, so that a run that goes on is the same run."""

    pretrain: int
    midtrain: int
    finetune: int
    reinforce: int
    tokens_per_s: float  # measured when the plan was made; 0 where it wasn't


@dataclass(slots=True)
class Session:
    """Everything the stages share while a command runs."""

    config: GrowConfig
    compute: Compute
    world: World
    tokenizer: Tokenizer
    dial: Dial
    model: GPT
    loss: LossFunction
    toolbox: Toolbox
    plan: Plan
    say: Say
    local: dict[str, Any]  # texts and conversations of the user, problems of GSM8K

    def stage_folder(self, stage: str) -> Path:
        return self.config.run / "stages" / stage

    @property
    def pad(self) -> int:
        return self.tokenizer.specials["<|endoftext|>"]

    @property
    def end(self) -> int:
        return self.tokenizer.specials["<|end|>"]


# ---------------------------------------------------------------- what goes in


def read_local(config: GrowConfig, say: Say) -> dict[str, Any]:
    """The user's own files, read and checked before any work begins, in splits by content."""
    check_memory(config.text, config.chat, free_memory("cpu"))
    border = Border(config.strict, say)
    local: dict[str, Any] = {
        "texts": train_and_validation(local_texts(config.text, border)),
        "chats": train_and_validation(local_conversations(config.chat, border)),
        "gsm8k": {},
        "dropped": border.dropped,
        "warnings": [],
    }
    if config.tasks is not None:
        if not (config.tasks / "gsm8k").is_dir():
            raise UserError(
                f"there is no folder {config.tasks / 'gsm8k'}; --tasks expects a folder with gsm8k/train.jsonl and "
                "gsm8k/test.jsonl (the other benchmarks are measured by: sprout eval --tasks)."
            )
        local["gsm8k"] = load_gsm8k(config.tasks / "gsm8k")
    if config.text and not local["texts"]["train"]:
        raise UserError(
            f"no text could be read from {', '.join(config.text)} ({border.dropped or 'nothing found'}); check the files."
        )
    for kind, name in (("texts", "documents"), ("chats", "conversations")):
        train, held_out = local[kind]["train"], local[kind]["validation"]
        if train is held_out and train:
            local["warnings"].append(
                f"{len(train)} {name} are too few to hold any out: bits per byte are measured on what was trained on"
            )
        elif train:
            say(f"read {len(train):,} {name} to train on and {len(held_out):,} held out")
    if config.text and not (config.chat or config.tasks or config.with_world):
        local["warnings"].append("no conversations (--chat, --with-world): every stage reads documents, it learns no chat")
    if border.dropped:
        say(f"left out: {', '.join(f'{rule} {n:,}' for rule, n in border.dropped.items())}")
    # What the files hold: a run belongs to it.
    local["fingerprint"] = f"{stable_hash(*[stable_hash(x) for kind in ('texts', 'chats', 'gsm8k') for split, xs in sorted(local[kind].items()) for x in (split, *xs)]):016x}"  # fmt: skip
    return local


def check_lengths(s: Session) -> None:
    """That something fits into the context, before work begins. GSM8K's problems that don't are left out, and said."""
    context = s.config.context
    for split, problems in s.local["gsm8k"].items():
        able = [p for p in problems if fits(s, p)]
        if not able and split != "validation":
            raise UserError(
                f"none of GSM8K's {split} problems fits into {context} tokens, its answer included; give a larger --context."
            )
        if len(able) < len(problems):
            gone = len(problems) - len(able)
            s.local["warnings"].append(f"GSM8K: {gone:,} of {len(problems):,} {split} problems don't fit into {context} tokens and were left out")  # fmt: skip
        s.local["gsm8k"][split] = able
    chats = s.local["chats"]["train"]
    if chats and not s.config.uses_world and not s.local["gsm8k"]:
        if not any(fit(render(s.tokenizer, m), context + 1, s.end, Counter()) for m in chats):
            raise UserError(
                f"not one of the {len(chats):,} conversations fits: the first exchange of each is longer than {context} "
                "tokens; give a larger --context."
            )
    if s.config.uses_world:
        tried = problems_for(s.world, list(SKILLS), 20, "test")
        if too_long := Counter(p.skill for p in tried if not fits(s, p)):
            of = ", ".join(f"{skill} ({n} of 20)" for skill, n in too_long.items())
            s.local["warnings"].append(f"not every problem fits into {context} tokens, and those that don't are left out: {of}")  # fmt: skip
        if too_long.total() == len(tried):
            raise UserError(f"no problem of the world fits into {context} tokens; give a larger --context.")
    for warning in s.local["warnings"]:
        s.say(f"note: {warning}")


def documents(s: Session, split: str, seed: int) -> Iterator[str]:
    """Endless documents: the user's, the world's, or turn by turn both."""
    own = s.local["texts"]["validation" if split != "train" else "train"]
    mine = itertools.cycle(random.Random(seed).sample(own, len(own))) if own else None
    theirs = world_texts(s.world, seed, split) if s.config.uses_world else None
    if mine and theirs:
        return (x for pair in zip(mine, theirs, strict=False) for x in pair)
    if mine or theirs:
        return mine or theirs or iter(())
    chats = s.local["chats"]["validation" if split != "train" else "train"]  # only conversations: read them as prose
    return itertools.cycle("\n".join(m.content for m in messages) for messages in chats)


def conversations(s: Session, split: str, seed: int, tokens: int) -> Iterator[Any]:
    """Conversations as ids and mask, `tokens` of them: the user's (GSM8K with its steps among them), the world's, or both."""
    own: list[tuple[Message, ...]] = list(s.local["chats"]["validation" if split != "train" else "train"])
    own += [(*p.prompt, *p.reply) for p in s.local["gsm8k"].get("train" if split == "train" else "validation", [])]
    share = (tokens // 2 if s.config.uses_world else tokens) if own else 0
    if own:
        yield from conversation_items(itertools.cycle(random.Random(seed).sample(own, len(own))), s.tokenizer, share)
    if s.config.uses_world:
        retold = int((tokens - share) * RETOLD) if split == "train" else 0
        yield from conversation_items(world_retellings(s.world, seed), s.tokenizer, retold)
        yield from problem_items(world_problems(s.world, seed, split), s.tokenizer, tokens - share - retold, s.config.context)


def feed(s: Session, stage: str, tokens: int, split: str = "train") -> Packed:
    """The packed rows of a stage: documents to pretrain, both to midtrain (7 parts of 10 conversations), conversations
    to finetune; documents everywhere where there are no conversations."""
    seed = stable_hash(s.config.seed, stage, split)
    talks_at_all = s.config.uses_world or s.local["chats"]["train"] or s.local["gsm8k"]
    talk = {"pretrain": 0.0, "midtrain": 0.7, "finetune": 1.0}[stage] if talks_at_all else 0.0
    items: list[Any] = []
    if talk < 1:
        items += document_items(documents(s, split, seed), s.tokenizer, int(tokens * (1 - talk)))
    if talk > 0:
        items += conversations(s, split, seed, int(tokens * talk))
    random.Random(seed).shuffle(items)
    # Midtraining learns every token, the user's too: names and numbers that come again teach copying.
    packed = pack(items, s.config.context, s.pad, s.end, every_token=stage == "midtrain")
    if stage == "pretrain":  # told once, with the first stage
        packed.dropped.update({f"while reading: {rule}": n for rule, n in s.local["dropped"].items()})
    return packed


# ---------------------------------------------------------------- before the first stage


def make_tokenizer(config: GrowConfig, world: World, local: dict[str, Any], say: Say) -> Tokenizer:
    """Load the tokenizer of a run that was begun, or train it on a sample of what the model will read."""
    folder = config.run / "tokenizer"
    if (folder / "tokenizer.json").is_file() and (config.run / "grow.json").is_file():
        return Tokenizer.load(folder)
    began = time.perf_counter()
    sample: list[str] = []
    if config.uses_world:
        sample += itertools.islice(world_texts(world, config.seed), 6000)
        for p in itertools.islice(world_problems(world, config.seed), 6000):
            messages = with_tools((*p.prompt, *p.reply), p.tools)
            sample += [part for m in messages for part in (m.content, m.call.arguments if m.call else "") if part]
    size = 0
    for text in itertools.chain(local["texts"]["train"], (m.content for c in local["chats"]["train"] for m in c)):
        sample.append(text)
        size += len(text)
        if size > 8_000_000:
            break
    tokenizer = Tokenizer.train(sample, config.vocab_size)
    tokenizer.save(folder)
    say(
        f"tokenizer: {tokenizer.vocab_size} tokens learned from {sum(map(len, sample)) / 1e6:.1f} MB in {time.perf_counter() - began:.1f} s"
        + ("" if tokenizer.vocab_size == config.vocab_size else f" ({config.vocab_size} were asked for: the text has no more pairs)")
    )
    return tokenizer


def loop_config(s: Session, stage: str, steps: int) -> LoopConfig:
    """Numbers of the loop. The learning rate is held through pretraining and midtraining and falls in finetuning."""
    d, rows = s.dial, max(1, s.config.batch_tokens // s.config.context)
    decay = steps if stage == "finetune" else 0
    optim = OptimConfig(d.matrix_lr, d.embed_lr, d.head_lr, d.weight_decay, dtype=s.compute.dtype)
    return LoopConfig(
        steps,
        rows,
        min(rows, 32),
        min(40, max(1, steps // 10)),
        decay,
        stable_hash(s.config.seed, stage) % 2**31,
        optim,
    )


def measure(s: Session) -> float:
    """Seconds a training step takes here; compiles on the way. The model comes out as it went in."""
    rows = max(1, s.config.batch_tokens // s.config.context)
    data = feed(s, "midtrain", 40 * s.config.context)
    weights = {k: v.clone() for k, v in s.model.state_dict().items()}
    optimizer = Optimizer(s.model, loop_config(s, "pretrain", 100).optim)
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < 4 or (len(seconds) < 25 and time.perf_counter() - began < 6):
        start = time.perf_counter()
        batch = get_batch(data, batch_rows(len(data), rows, len(seconds), 0), s.compute.device)
        backward_step(s.loss, batch, min(rows, 32))
        optimizer.step(1e-6)
        if not seconds:
            began = time.perf_counter()  # the first step compiles
        seconds.append(time.perf_counter() - start)
    s.model.load_state_dict(weights)
    return float(np.median(seconds[1:]))


def make_plan(s: Session, began: float) -> Plan:
    """Turn minutes into steps: what is left after evaluation and data is shared out, 11 % of all to reinforcement."""
    config = s.config
    tokens_per_step = max(1, config.batch_tokens // config.context) * config.context
    if config.tokens:
        steps = max(3, config.tokens // tokens_per_step)
        speed, rl = 0.0, 4 if config.rl_steps < 0 else config.rl_steps
    else:
        step = measure(s)
        speed = tokens_per_step / step
        s.say(f"measured {speed / 1000:.1f}k tokens/s")
        total = config.minutes * 60
        evaluation = 4 * (0.0035 * config.eval_problems * (len(SKILLS) + 1) * (1 if config.uses_world else 0.2) + 4)
        rl_seconds = 0.11 * total
        left = total - (time.perf_counter() - began) - evaluation - rl_seconds - 10
        # Making the data costs about a second per 300k tokens besides.
        steps = max(3, int(left / (step + tokens_per_step / 300_000)))
        rl = max(2, int(rl_seconds / 2.7)) if config.rl_steps < 0 else config.rl_steps
    pretrain, finetune = max(1, round(steps * 0.10)), max(1, round(steps * 0.50))
    return Plan(pretrain, max(1, steps - pretrain - finetune), finetune, rl, speed)


# ---------------------------------------------------------------- stages


@functools.cache  # what runs is what was loaded, whatever is edited meanwhile
def code_version() -> str:
    """A hash of the source that decides what a stage gives."""
    root = Path(sprout.__file__).parent
    parts = [p.read_text(encoding="utf-8") for d in ("common", "world", "tokenizer", "model", "optim", "data", "train", "engine", "rl")
             for p in sorted((root / d).rglob("*.py"))]  # fmt: skip
    return f"{stable_hash(*parts):016x}"


def stage_key(s: Session, stage: str) -> str:
    """What went into a stage: config, data, code, and the stages before."""
    config = {k: v for k, v in asdict(s.config).items() if k not in ("run", "minutes", "eval_problems", "threads")}
    before = STAGES[: STAGES.index(stage) + 1]
    return f"{stable_hash(config, [getattr(s.plan, b) for b in before], s.tokenizer.fingerprint, s.local['fingerprint'], code_version(), stage):016x}"


def done(s: Session, stage: str) -> bool:
    """Whether the run holds this stage, whole and made from the same things. Raises UserError for one of another run."""
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
    if at == 0:
        s.model.load_state_dict(GPT(s.model.config, s.config.seed).state_dict())
        return
    folder = s.stage_folder(STAGES[at - 1])
    s.model.load_state_dict(load_hf(folder)[0].state_dict())


def check_problem(problem: Problem, reply: Reply) -> Verdict:
    """The checker of the problem's skill, GSM8K included."""
    return check_gsm8k(problem, reply) if problem.skill == "gsm8k" else SKILLS[problem.skill].check(problem, reply)


def evaluate(s: Session, stage: str) -> dict[str, Any]:
    """Bits per byte of held-out text, every skill on held-out problems, and the same prompts answered as ever."""
    s.say(f"{stage}: evaluating")
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
    replies = engine.generate(prompts, Sampling(max_tokens=100))
    found["samples"] = [
        {"prompt": p.messages[-1].content, "reply": spoken(c.messages)} for p, c in zip(prompts, replies, strict=True)
    ]
    return found


def fits(s: Session, problem: Problem) -> bool:
    """Whether prompt and right reply have room in the context, twins included."""
    for p in (problem, problem.twin) if problem.twin else (problem,):
        if len(render(s.tokenizer, (*p.prompt, *p.reply), p.tools)[0]) >= s.config.context:
            return False
    return True


def spoken(messages: tuple[Message, ...]) -> str:
    """A reply as a person reads it, tool calls in brackets."""
    lines = []
    for m in messages:
        if m.role == "tool":
            lines.append(f"[result: {m.content}]")
        else:
            lines.append(m.content + (f"[{m.call.name} {m.call.arguments}]" if m.call else ""))
    return "\n".join(line for line in lines if line)


def sample_prompts(s: Session) -> list[Prompt]:
    """The prompts that every stage answers for the report."""
    if not s.config.uses_world:
        asked = ["Hello! Who are you?", "What is the capital of France?", "Tell me a story.", "What is 12 + 30?"]
        return [Prompt((Message("user", text),)) for text in asked]
    names = ("small_talk", "recall", "reading", "lookup", "unknown", "arithmetic", "word_problems", "story")
    return [Prompt(p.prompt, p.tools) for p in problems_for(s.world, names, 1, "test", seed=7) if fits(s, p)]


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
    (folder / "stage.json").unlink(missing_ok=True)
    save_hf(s.model, s.tokenizer, folder)
    write_json(folder / "stage.json", record)
    if record.get("skills"):
        mean = sum(v["rate"] for v in record["skills"].values()) / len(record["skills"])
        s.say(f"{stage}: {record['val_bpb']:.3f} bits per byte, {mean:.1%} of held-out problems right")
    else:
        s.say(f"{stage}: {record['val_bpb']:.3f} bits per byte")


def run_stage(s: Session, stage: str) -> None:
    """Pretrain, midtrain or finetune, unless it is done."""
    if done(s, stage):
        s.say(f"{stage}: done before")
        return
    began = time.perf_counter()
    take_up(s, stage)
    steps = getattr(s.plan, stage)
    config = loop_config(s, stage, steps)
    data = feed(s, stage, min(steps * config.rows * s.config.context, 8_000_000))
    made = time.perf_counter() - began
    curve = train(s.model, s.loss, data, config, checkpoint_folder(s, stage), stage, s.compute, s.say)
    tokens = steps * config.rows * s.config.context
    record = {"steps": steps, "tokens": tokens, "curve": curve, "dropped": data.dropped, "data_seconds": made,
              "seconds": curve[-1]["seconds"] if curve else 0.0,
              "warnings": s.local["warnings"] if stage == "pretrain" else []}  # fmt: skip
    finish(s, stage, began, record)


def where_tries_differ(s: Session, engine: Engine, problems: int = 16, tries: int = 8) -> list[str]:
    """The skills, first those whose tries at one problem come out most differently (p (1 - p), averaged over validation
    problems): where all are right or all are wrong, a comparison within the group teaches nothing."""
    asked = [p for p in problems_for(s.world, list(SKILLS), problems, "validation") if fits(s, p)]
    sampling = Sampling(1.0, max_tokens=130, seed=stable_hash(s.config.seed, "tries") % 2**31)
    completions = engine.generate([Prompt(p.prompt, p.tools) for p in asked for _ in range(tries)], sampling)
    spread: dict[str, list[float]] = {}
    for i, problem in enumerate(asked):
        mine = completions[i * tries : (i + 1) * tries]
        right = sum(check_problem(problem, c.messages).right and c.finish == "stop" for c in mine) / tries
        spread.setdefault(problem.skill, []).append(right * (1 - right))
    return sorted(spread, key=lambda k: -sum(spread[k]) / len(spread[k]))


def rehearsal(s: Session, steps: int) -> Callable[[int], None]:
    """A function that adds to the model's gradients those of a batch of finetuning, another one every step."""
    config = loop_config(s, "finetune", steps)
    data = feed(s, "finetune", steps * config.rows * s.config.context)

    def rehearse(step: int) -> None:
        rank, size = processes()
        rows = batch_rows(len(data), config.rows, step, stable_hash(config.seed, "rehearsal") % 2**31)
        before, s.model.dtype = s.model.dtype, s.compute.dtype
        backward_step(s.loss, get_batch(data, rows[rank::size], s.compute.device), config.micro_rows)
        s.model.dtype = before

    return rehearse


def run_reinforce(s: Session) -> None:
    """Reinforce the skill where it can teach most, GSM8K where it is given, and rehearse the others beside it."""
    if done(s, "reinforce"):
        s.say("reinforce: done before")
        return
    began = time.perf_counter()
    take_up(s, "reinforce")
    engine = Engine(s.model, s.tokenizer, s.toolbox)
    gsm8k = s.local["gsm8k"]
    chosen: list[str] = []
    held_out: list[Problem] = []
    sources: list[Iterator[Problem]] = []
    if s.config.uses_world:
        chosen = where_tries_differ(s, engine)[:1]
        held_out = problems_for(s.world, chosen, 2 * s.config.eval_problems, "test")
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

    def as_it_plays() -> dict[str, Any]:
        """Held-out problems answered the way they are practised, by sampling: what is reinforced."""
        able = [p for p in held_out if fits(s, p)]
        scores = evaluate_skills(engine, able, check=check_problem, temperature=1.0).scores
        return {name: score.plain() for name, score in scores.items()}

    before = as_it_plays()
    d = s.dial
    optim = OptimConfig(d.matrix_lr * 0.4, d.embed_lr * 0.16, d.head_lr * 0.4, 0.0, dtype=s.compute.dtype)
    config = ReinforceConfig(s.plan.reinforce, 24, 8, 130, 1.0, stable_hash(s.config.seed, "rl") % 10_000, optim)
    log = reinforce(
        s.model, s.tokenizer, s.toolbox, problems, check_problem, config, checkpoint_folder(s, "reinforce"), s.say,
        rehearsal(s, s.plan.reinforce),
    )
    tokens = int(sum(e["length"] for e in log) * config.groups * config.replies)
    record: dict[str, Any] = {"steps": s.plan.reinforce, "tokens": tokens, "curve": [], "rl": log, "rl_skills": chosen, "dropped": {},
              "warnings": [], "seconds": log[-1]["seconds"] if log else 0.0}  # fmt: skip
    after = as_it_plays()
    record["rl_gains"] = {k: {"before": before[k], "after": after[k]} for k in before}
    finish(s, "reinforce", began, record)


# ---------------------------------------------------------------- the whole


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


def open_session(config: GrowConfig, say: Say) -> Session:
    """Everything up to the first stage. A run folder belongs to one configuration; another is refused."""
    began = time.perf_counter()
    compute = decide(config.device, config.compile, config.threads)
    apply(compute)
    say(compute.say())
    check_folder(config.run)
    shape = dial(config.depth, config.vocab_size, config.context, config.tokens or None, config.batch_tokens).shape
    rows = max(1, config.batch_tokens // config.context)
    need, free = training_bytes(shape, min(rows, 32) * config.context), free_memory(compute.device)
    if free is not None and need > free:
        raise UserError(
            f"a model of depth {config.depth} ({parameters(shape):,} parameters) takes at least {need / 1e9:.1f} GB to train, "
            f"and {free / 1e9:.1f} GB are free; take a smaller --depth, --vocab-size or --context, or close other programs."
        )
    local = read_local(config, say)
    ours = {k: str(v) for k, v in asdict(config).items() if k not in ("run", "threads", "eval_problems")}
    if config.text or config.chat or config.tasks:
        ours["data"] = local["fingerprint"]
    path = config.run / "grow.json"
    theirs = read_json(path) if path.is_file() else {}
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
    model.dtype = compute.dtype
    s = Session(config, compute, world, tokenizer, d, model, make_loss(model, compute), toolbox_for(world if config.uses_world else None),
                Plan(0, 0, 0, 0, 0.0), say, local)  # fmt: skip
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
    say(f"a model of {parameters(d.shape):,} parameters: {d.shape.layers} layers of width {d.shape.width}")
    say(f"the plan: {s.plan.pretrain} steps of pretraining, {s.plan.midtrain} of midtraining, {s.plan.finetune} of finetuning, "
        f"{s.plan.reinforce} of reinforcement, {config.batch_tokens} tokens a step")  # fmt: skip
    return s


def grow(config: GrowConfig) -> int:
    """Grow a model: read or make its world, learn a tokenizer, pretrain, midtrain, finetune, reinforce, report."""
    say: Say = print
    began = time.perf_counter()
    s = open_session(config, say)
    for stage in STAGES[:3]:
        run_stage(s, stage)
    run_reinforce(s)
    build_report(config.run)
    say(f"\ngrown in {(time.perf_counter() - began) / 60:.1f} minutes. The report: {config.run / 'report.html'}")
    # Where there is no `sprout` on the path (after `make grow`), name the one that was called.
    sprout_command = sys.argv[0] if Path(sys.argv[0]).name == "sprout" and not shutil.which("sprout") else "sprout"
    say(f"Talk to it:  {sprout_command} chat --model {config.run}")
    return 0


def run_single(stage: str, config: GrowConfig) -> int:
    """One stage of a run, on top of those before it, which must be there."""
    s = open_session(config, print)
    at = STAGES.index(stage)
    if at and not done(s, STAGES[at - 1]):
        raise UserError(
            f"{stage} builds on {STAGES[at - 1]}, which {config.run} does not hold yet; run: sprout {STAGES[at - 1]}"
        )
    if stage == "reinforce":
        run_reinforce(s)
    else:
        run_stage(s, stage)
    return 0


def with_run(config: GrowConfig, run: Path) -> GrowConfig:
    """The same config for another folder."""
    return replace(config, run=run)
