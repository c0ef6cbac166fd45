"""Layer 2, the events: what happened, year by year, with its cause. Later events build on earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sprout.world.dice import Dice
from sprout.world.lexicon import INSTRUMENTS, PLANTS, PRODUCTS

if TYPE_CHECKING:
    from sprout.world.state import Person, Place, Shop


@dataclass(frozen=True, slots=True)
class Event:
    """In `year`, at `place`, something of `kind` happened: `text` says what, `cause` why (a clause, or empty)."""

    year: int
    kind: str
    place: str
    who: str
    text: str
    cause: str


def simulate(dice: Dice, people: Sequence[Person], places: Sequence[Place], shops: Sequence[Shop]) -> tuple[Event, ...]:
    """Run the years. A flood breaks a bridge before it is rebuilt; friends quarrel when both are grown, and make up; a shop opens once its
    owner is grown; so that every event agrees with the state and with what came before."""
    events = []
    for place in places:
        bridge = place.founded + dice.integer(5, 40)
        events.append(
            Event(bridge, "bridge", place.name, "", f"a bridge over the {place.river} was built at {place.name}", "")
        )
        flood = bridge + dice.integer(5, 60)
        events.append(Event(flood, "flood", place.name, "", f"the {place.river} flooded and broke the bridge at {place.name}",
                            "after weeks of rain"))  # fmt: skip
        events.append(Event(flood + dice.integer(1, 3), "repair", place.name, "", f"the people of {place.name} built a new bridge",
                            "because the flood had broken the old one"))  # fmt: skip
        fair = flood + dice.integer(10, 80)
        events.append(Event(fair, "fair", place.name, "", f"{place.name} held its first {place.known_for} fair",
                            f"because its {place.known_for} had become known everywhere"))  # fmt: skip
        bad = fair + dice.integer(2, 30)
        events.append(Event(bad, "harvest", place.name, "", f"the harvest failed around {place.name} and prices rose",
                            f"because blight had killed the {dice.pick(PLANTS)}"))  # fmt: skip
    born = {p.name: p.born for p in people}
    for person in people:
        moved = person.born + dice.integer(18, 30)
        other = dice.pick([p.name for p in places if p.name != person.home])
        events.append(Event(moved, "move", person.home, person.name, f"{person.name} moved from {other} to {person.home}",
                            f"to work as a {person.trade}"))  # fmt: skip
        quarrel = max(moved, born[person.friend] + 18) + dice.integer(1, 10)
        thing = dice.pick(INSTRUMENTS + PRODUCTS)
        events.append(Event(quarrel, "quarrel", person.home, person.name, f"{person.name} and {person.friend} quarrelled",
                            f"over a borrowed {thing}" if thing in INSTRUMENTS else f"over the price of {thing}"))  # fmt: skip
        events.append(Event(quarrel + 1, "peace", person.home, person.name, f"{person.name} and {person.friend} made up",
                            "because they missed each other"))  # fmt: skip
    for shop in shops:
        events.append(Event(born[shop.owner] + dice.integer(25, 40), "shop", shop.place, shop.owner,
                            f"{shop.owner} opened {shop.name} in {shop.place}", ""))  # fmt: skip
    return tuple(sorted(events, key=lambda e: (e.year, e.text)))
