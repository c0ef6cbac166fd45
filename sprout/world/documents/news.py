"""News of what happened in the world."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import scene, tell
from sprout.world.lexicon import MONTHS, WEEKDAYS
from sprout.world.state import Place, World
from sprout.world.types import Document

KIND, SHARE = "news", 1.0


def write(world: World, dice: Dice) -> Document:
    """An event and its cause, the place it happened in, a witness, and what a reader should know about the people."""
    event = dice.pick(world.events)
    about = world.by_name[event.who] if event.who else world.by_name[event.place]
    told, facts = tell(about, dice, 3)
    place = world.by_name[event.place]
    assert isinstance(place, Place)
    month = dice.pick(MONTHS)
    when = dice.pick(
        (f"In {event.year}", f"{dice.pick(WEEKDAYS)}, {month} {event.year}: it is reported that", f"{month} {event.year}.\nOur readers write that",
         f"{place.name}, {event.year}. We hear that", f"As old papers tell, in {event.year}", f"{place.name}, in {month} {event.year}:",
         f"News from {place.name}: in {event.year}", f"The paper of {event.year} says that")
    )  # fmt: skip
    cause = f" {event.cause}" if event.cause else ""
    witness = scene(dice, dice.pick(("a witness", "a neighbour", "an old sailor", "the mayor", "our reporter")))
    return Document(
        KIND, f"{when} {event.text}{cause}. {witness} {' '.join(told)}", tuple(facts), plan={"event": event.kind}
    )
