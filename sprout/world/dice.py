"""A random generator that counts the bits it spends, so that every document knows its own entropy."""

from __future__ import annotations

import math
import random
from collections.abc import MutableSequence, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Seeded choices. `bits` is the sum of -log2 p over the choices made: an upper bound on the negative
    log2-likelihood of what was written under the grammar, exact where only one derivation gives the text."""

    __slots__ = ("bits", "random")

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bits = 0.0

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        n = len(options)
        self.bits += math.log2(n)
        return options[int(self.random.random() * n)]

    def chance(self, p: float) -> bool:
        """True with probability p, 0 < p < 1."""
        hit = self.random.random() < p
        self.bits -= math.log2(p if hit else 1 - p)
        return hit

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high], both ends included."""
        self.bits += math.log2(high - low + 1)
        return low + int(self.random.random() * (high - low + 1))

    def sample(self, options: Sequence[T], k: int) -> list[T]:
        """k different options, in random order."""
        self.bits += math.log2(math.perm(len(options), k))
        return self.random.sample(options, k)

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Put the items into random order, in place."""
        self.bits += math.log2(math.factorial(len(items)))
        self.random.shuffle(items)

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """One of the options, in proportion to its weight."""
        (index,) = self.random.choices(range(len(options)), weights)
        self.bits -= math.log2(weights[index] / sum(weights))
        return options[index]
