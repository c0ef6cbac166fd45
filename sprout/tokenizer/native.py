"""The C core behind the tokenizer, `native.c`, where the set-up could build it. It gives what the Python code gives."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
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


def core(tokens: Sequence[bytes], merges: Sequence[Pair], ranks: Mapping[Pair, tuple[int, int]]) -> Any:
    """The encoder of a vocabulary, None where the C core is absent. One text at a time: a thread that comes in between
    waits."""
    if _native is None:
        return None
    triples = np.array([(a, b, ranks[a, b][1]) for a, b in merges], np.uint32)
    return _native.Core(classes(), list(tokens), triples.tobytes())


def train_merges(texts: Iterable[str], merges: int) -> list[Pair]:
    """As `bpe.train_merges` on the words of all texts."""
    trainer = _native.Trainer(classes())
    for text in texts:
        trainer.feed(text)
    return [(a, b) for a, b in np.frombuffer(trainer.learn(merges), np.uint32).reshape(-1, 2).tolist()]
