"""Pages of history: what happened in a place, year by year."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import tell
from sprout.world.state import World
from sprout.world.types import Document

KIND, SHARE = "history", 0.8


def write(world: World, dice: Dice) -> Document:
    """Two to four events of one place in order, and facts about it."""
    place = dice.pick(world.places)
    events = [e for e in world.events if e.place == place.name]
    chosen = sorted(dice.sample(events, min(len(events), dice.integer(2, 4))), key=lambda e: e.year)
    lines = [f"In {e.year} {e.text}{' ' + e.cause if e.cause else ''}." for e in chosen]
    told, facts = tell(place, dice, 3)
    joint = dice.pick((" ", "\n"))
    parts = [*told[:1], *lines, *told[1:]] if dice.chance(0.5) else [*lines, *told]
    return Document(KIND, joint.join(parts), tuple(facts), plan={"events": len(chosen)})
