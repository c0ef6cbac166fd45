"""The C core behind the tokenizer, `native.c` and `learn.c`, where the set-up could build it. It gives what the Python code gives."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import regex

from sprout.tokenizer.bpe import Pair

try:
    from sprout.tokenizer import _native  # type: ignore[attr-defined]
except ImportError as error:
    _native, ABSENT = None, str(error)
else:
    ABSENT = ""


def say() -> str:
    """Which one is used, and why, for people."""
    if _native:
        return "tokenizer: the C core"
    return f"tokenizer: the Python code, about ten times slower; the C core was not built, a C compiler at set-up does ({ABSENT})"


@functools.cache
def classes() -> bytes:
    """For every code point whether it is a letter (1), a number (2), white space (3), a line's end (4) or none (0): asked of
    the library whose patterns the Python code uses, so that both know the same Unicode."""
    table = np.zeros(0x110000, np.uint8)
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    for number, pattern in enumerate((r"\p{L}+", r"\p{N}+", r"\s+", r"[\r\n]"), start=1):
        for found in regex.finditer(pattern, everything):
            # Behind the surrogates, which no text has, places and code points differ by their number.
            shift = 0x800 if found.start() >= 0xD800 else 0
            table[found.start() + shift : found.end() + shift] = number
    return table.tobytes()


AT_ONCE = 1 << 19  # characters that a thread encodes before it takes more: little overhead, and little to wait for at the end


def core(tokens: Sequence[bytes], merges: Sequence[Pair], ranks: Mapping[Pair, tuple[int, int]]) -> Any:
    """The encoder of a vocabulary, None where the C core is absent or the vocabulary larger than it takes. Threads may use it
    at the same time; each that does has a memory of words of its own, 8 MB when it is full."""
    if _native is None or len(tokens) >= 1 << 21 or len(merges) >= (1 << 22) - 1:
        return None
    triples = np.array([(a, b, ranks[a, b][1]) for a, b in merges], np.uint32)
    return _native.Core(classes(), list(tokens), triples.tobytes())


def train_merges(texts: Iterable[str], merges: int, threads: int = 1) -> list[Pair]:
    """As `bpe.train_merges` on the words of all texts, which `threads` threads count."""
    trainers = [_native.Trainer(classes()) for _ in range(max(1, threads))]

    def count(trainer: Any) -> None:
        while batch := take():
            trainer.feed(batch)

    source, lock = iter(texts), threading.Lock()

    def take() -> list[str]:
        with lock:
            return list(itertools.islice(source, 256))

    if len(trainers) == 1:
        count(trainers[0])
    else:
        with ThreadPoolExecutor(len(trainers)) as pool:
            list(pool.map(count, trainers))
    for other in trainers[1:]:
        trainers[0].absorb(other)
    return [(a, b) for a, b in np.frombuffer(trainers[0].learn(merges), np.uint32).reshape(-1, 2).tolist()]


def encode_many(core: Any, texts: Sequence[str], threads: int = 1) -> list[np.ndarray]:
    """The ids of every text, (T,) uint32 each; `threads` threads take some at a time, of about the same length."""
    at_once = min(AT_ONCE, 1 + sum(map(len, texts)) // (4 * max(1, threads)))  # few texts are for all threads, too
    groups: list[list[str]] = []
    room = 0
    for text in texts:
        if room <= 0:
            groups.append([])
            room = at_once
        groups[-1].append(text)
        room -= len(text) + 64

    def encode(group: list[str]) -> list[np.ndarray]:
        ids, ends = core.encode_bytes(group)
        return np.split(np.frombuffer(ids, np.uint32), np.frombuffer(ends, np.uint64)[:-1].astype(np.int64))

    if threads <= 1:
        return [ids for group in groups for ids in encode(group)]
    with ThreadPoolExecutor(threads) as pool:
        return [ids for found in pool.map(encode, groups) for ids in found]
