"""What goes in: the user's files, the world, the tokenizer made from them, and the packed rows of every stage."""

from __future__ import annotations

import functools
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sprout.common.compute import free_memory
from sprout.common.errors import UserError
from sprout.common.files import read_json
from sprout.common.hashing import stable_hash
from sprout.common.messages import Message
from sprout.common.processes import on_first
from sprout.data import (
    Border,
    Packed,
    Stream,
    check_memory,
    conversation_items,
    document_items,
    local_conversations,
    local_texts,
    open_corpus,
    pack,
    problem_items,
    sample,
    text_bytes,
    train_and_validation,
    world_problems,
    world_retellings,
    world_texts,
)
from sprout.data.gsm8k import load_gsm8k
from sprout.data.packing import fit
from sprout.evals import problems_for
from sprout.optim import world
from sprout.recipe.config import GrowConfig, Say, Session
from sprout.tokenizer import Tokenizer, render
from sprout.tokenizer.chat import with_tools
from sprout.world import Problem, World
from sprout.world.skills import SKILLS

RETOLD = 0.1  # share of the conversations that tell again what the documents told
STREAM_ABOVE = 256 << 20  # bytes of text; a stage takes about 30 million characters at most from what is read whole
SAMPLE = 16_000_000  # characters of a corpus that streams, for the tokenizer, evaluation and midtraining
IN_MEMORY = 8_000_000  # tokens that a stage packs at most; a longer one sees them more than once


def read_local(config: GrowConfig, say: Say) -> dict[str, Any]:
    """The user's own files, read and checked before any work begins, in splits by content."""
    streamed = streams(config)
    check_memory(() if streamed else config.text, config.chat, free_memory("cpu"))
    border = Border(config.strict, say)
    corpus = open_corpus(config.text, border) if streamed else None
    texts = sample(corpus, SAMPLE, config.seed) if corpus else local_texts(config.text, border)
    local: dict[str, Any] = {
        "corpus": corpus,
        "texts": train_and_validation(texts),
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
        elif train and kind == "texts" and corpus:
            size = sum(map(len, train)) / 1e6
            say(f"the text streams: {len(corpus.blocks):,} blocks; a sample of {size:.1f} million characters read, for the tokenizer")
        elif train:
            say(f"read {len(train):,} {name} to train on and {len(held_out):,} held out")
    if config.text and not (config.chat or config.tasks or config.with_world):
        local["warnings"].append("no conversations (--chat, --with-world): every stage reads documents, it learns no chat")
    if border.dropped:
        say(f"left out: {', '.join(f'{rule} {n:,}' for rule, n in border.dropped.items())}")
    # What the files hold: a run belongs to it.
    local["fingerprint"] = f"{stable_hash(*[stable_hash(x) for kind in ('texts', 'chats', 'gsm8k') for split, xs in sorted(local[kind].items()) for x in (split, *xs)]):016x}"  # fmt: skip
    if corpus:
        local["fingerprint"] = f"{stable_hash(local['fingerprint'], corpus.fingerprint):016x}"
    return local


def streams(config: GrowConfig) -> bool:
    """Whether the text is streamed: as asked for, else as the run was begun, else by its size and kind."""
    if config.stream != "auto" or not config.text:
        return config.stream == "on"
    begun = config.run / "grow.json"
    if begun.is_file():
        return read_json(begun).get("streamed") == "True"
    size, only = text_bytes(config.text)
    return only or size > min(STREAM_ABOVE, (free_memory("cpu") or STREAM_ABOVE * 8) // 8)


def fits(s: Session, problem: Problem) -> bool:
    """Whether prompt and right reply have room in the context, twins included."""
    for p in (problem, problem.twin) if problem.twin else (problem,):
        if len(render(s.tokenizer, (*p.prompt, *p.reply), p.tools)[0]) >= s.config.context:
            return False
    return True


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


def talks_at_all(s: Session) -> bool:
    """Whether there are conversations to learn from."""
    return bool(s.config.uses_world or s.local["chats"]["train"] or s.local["gsm8k"] or s.local.get("chats_elsewhere"))


def source(s: Session, stage: str, steps: int, rows: int, folder: Path) -> Packed | Stream:
    """What a stage trains on: its packed rows or, where it reads nothing but text and the text streams, the stream, which
    keeps its index in `folder`."""
    corpus = s.local["corpus"]
    if corpus is None or (stage != "pretrain" and talks_at_all(s)):
        return feed(s, stage, min(steps * rows * s.config.context, IN_MEMORY))
    mix = functools.partial(world_texts, s.world) if s.config.uses_world else None
    seed = stable_hash(s.config.seed, stage, "train")
    return Stream(corpus, s.tokenizer, s.config.context, rows, seed, folder / "stream.jsonl", world()[0] == 0, mix)


def feed(s: Session, stage: str, tokens: int, split: str = "train") -> Packed:
    """The packed rows of a stage: documents to pretrain, both to midtrain (7 parts of 10 conversations), conversations
    to finetune; documents everywhere where there are no conversations. The first process makes them for all."""
    return on_first(lambda: _feed(s, stage, tokens, split))


def _feed(s: Session, stage: str, tokens: int, split: str) -> Packed:
    seed = stable_hash(s.config.seed, stage, split)
    talk = {"pretrain": 0.0, "midtrain": 0.7, "finetune": 1.0}[stage] if talks_at_all(s) else 0.0
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
