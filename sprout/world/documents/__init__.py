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
from sprout.world.state import World, WorldConfig, build_world
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
    """A document of a random kind, `world.config.skill_share` of them practice; of the others, `world.config.fact_share`
    tell of this world. `bits` is what its choices cost."""
    config, before = world.config, dice.bits
    practice = config.skill_share > 0 and dice.random.random() < config.skill_share
    passing = not practice and config.fact_share < 1 and dice.random.random() >= config.fact_share
    kinds = [k for k in KINDS if (k in PRACTICE) == practice]
    kind = dice.weighted(kinds, [SHARES[k] for k in kinds])
    document = KINDS[kind](passing_world(world, dice) if passing else world, dice)
    facts = () if passing else document.facts  # what is told of a world that passes by is no fact of ours
    return replace(document, facts=facts, bits=dice.bits - before)


def passing_world(world: World, dice: Dice) -> World:
    """A small world for a single document, whose people and places nobody meets again: none has a name of ours."""
    while True:
        config = WorldConfig(dice.integer(0, 2**32), 8, 20, 3, 2, 2, name_family=world.config.name_family)
        passing = build_world(config)
        if passing.by_name.keys().isdisjoint(world.by_name):
            return passing


__all__ = ["KINDS", "PRACTICE", "SHARES", "passing_world", "write_document"]
