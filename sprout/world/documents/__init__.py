"""What is written in the world: a file per kind of document, all alike. Read `encyclopedia.py`, then `story.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sprout.world.dice import Dice
from sprout.world.documents import (
    dialogue,
    diary,
    encyclopedia,
    history,
    letter,
    news,
    primer,
    program,
    quiz,
    recipe,
    schedule,
    shopping,
    story,
    textbook,
)
from sprout.world.state import World
from sprout.world.types import Document

Writer = Callable[[World, Dice], Document]
_MODULES = (
    encyclopedia,
    story,
    dialogue,
    quiz,
    diary,
    letter,
    news,
    recipe,
    textbook,
    schedule,
    program,
    shopping,
    history,
    primer,
)
KINDS: dict[str, Writer] = {m.KIND: m.write for m in _MODULES}
SHARES: dict[str, float] = {m.KIND: m.SHARE for m in _MODULES}
PRACTICE = ("quiz", "textbook", "primer")  # kinds that practise skills


def write_document(world: World, dice: Dice) -> Document:
    """A document of a random kind, `world.config.skill_share` of them practice; `bits` is what its choices cost."""
    before = dice.bits
    practice = world.config.skill_share > 0 and dice.random.random() < world.config.skill_share
    kinds = [k for k in KINDS if (k in PRACTICE) == practice]
    kind = dice.weighted(kinds, [SHARES[k] for k in kinds])
    document = KINDS[kind](world, dice)
    return replace(document, bits=dice.bits - before)


__all__ = ["KINDS", "PRACTICE", "SHARES", "write_document"]
