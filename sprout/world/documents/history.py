"""Pages of history: what happened in a place, year by year."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import tell
from sprout.world.events import Event
from sprout.world.state import World
from sprout.world.types import Document

KIND, SHARE = "history", 0.8


YEARS = ("In {y} {t}.", "In the year {y} {t}.", "{y}: {t}.", "It was in {y} that {t}.", "Then, in {y}, {t}.")


def _line(event: Event, dice: Dice) -> str:
    happened = f"{event.text} {event.cause}".strip()
    return dice.pick(YEARS).format(y=event.year, t=happened)


def write(world: World, dice: Dice) -> Document:
    """Two to four events of one place in order, and facts about it."""
    place = dice.pick(world.places)
    events = [e for e in world.events if e.place == place.name]
    chosen = sorted(dice.sample(events, min(len(events), dice.integer(2, 4))), key=lambda e: e.year)
    lines = [_line(e, dice) for e in chosen]
    told, facts = tell(place, dice, dice.integer(2, 3))
    joint = dice.pick((" ", "\n"))
    parts = [*told[:1], *lines, *told[1:]] if dice.chance(0.5) else [*lines, *told]
    return Document(KIND, joint.join(parts), tuple(facts), plan={"events": len(chosen)})
