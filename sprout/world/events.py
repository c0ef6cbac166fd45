"""Layer 2, the events: what happened, year by year, with its cause. Later events build on earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sprout.world.dice import Dice
from sprout.world.lexicon import INSTRUMENTS, PRODUCTS

if TYPE_CHECKING:
    from sprout.world.state import Person, Place, Shop


CROPS = ("barley", "wheat", "oats", "rye", "corn", "beans", "turnips")
# {r} the river, {p} the place, {k} what it is known for, {c} a crop; {a} and {b} two friends.
BRIDGE = ("a bridge over the {r} was built at {p}", "{p} got its first bridge", "{p} built a bridge across the {r}")
FLOOD = ("the {r} flooded {p} and tore away its bridge", "high water of the {r} broke the bridge at {p}",
         "the bridge of {p} fell into the {r}")  # fmt: skip
RAINS = ("after weeks of rain", "when the snow melted", "in a night of storms", "after a wet winter")
REPAIR = ("{p} built a new bridge", "a stronger bridge was built at {p}", "the bridge at {p} was built again")
LOST = ("because the flood had taken the old one", "in place of the old one", "since nobody liked the ferry")
FAIR = ("{p} held its first {k} fair", "the first {k} fair drew crowds to {p}", "{p} began its yearly {k} fair")
FAME = ("because its {k} was sold everywhere", "to sell more {k}", "because merchants asked for {k}")
HARVEST = ("the harvest failed around {p}", "bread grew dear in {p}", "prices rose in {p}")
BLIGHT = ("because blight killed the {c}", "after hail had beaten down the {c}", "because it was too dry for {c}")
BILLS = ("over a bill for {t}", "about the price of {t}", "because of bad {t}", "over {t} that was never paid")
PEACE = ("{a} and {b} made up", "{a} and {b} shook hands", "{a} and {b} became friends again")
REASONS = ("because they missed each other", "after a long talk", "with the help of a neighbour", "at a wedding",
           "when the winter was lonely", "over a bowl of soup")  # fmt: skip


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

        def say(texts: Sequence[str], place: Place = place) -> str:
            return dice.pick(texts).format(r=place.river, p=place.name, k=place.known_for, c=dice.pick(CROPS))

        bridge = place.founded + dice.integer(5, 40)
        flood = bridge + dice.integer(5, 60)
        fair = flood + dice.integer(10, 80)
        bad = fair + dice.integer(2, 30)
        events += [
            Event(bridge, "bridge", place.name, "", say(BRIDGE), ""),
            Event(flood, "flood", place.name, "", say(FLOOD), say(RAINS)),
            Event(flood + dice.integer(1, 3), "repair", place.name, "", say(REPAIR), say(LOST)),
            Event(fair, "fair", place.name, "", say(FAIR), say(FAME)),
            Event(bad, "harvest", place.name, "", say(HARVEST), say(BLIGHT)),
        ]
    born = {p.name: p.born for p in people}
    for person in people:
        moved = person.born + dice.integer(18, 30)
        other = dice.pick([p.name for p in places if p.name != person.home])
        events.append(Event(moved, "move", person.home, person.name, f"{person.name} moved from {other} to {person.home}",
                            f"to work as a {person.trade}"))  # fmt: skip
        quarrel = max(moved, born[person.friend] + 18) + dice.integer(1, 10)
        thing = dice.pick(INSTRUMENTS + PRODUCTS)
        events.append(Event(quarrel, "quarrel", person.home, person.name, f"{person.name} and {person.friend} quarrelled",
                            f"over a borrowed {thing}" if thing in INSTRUMENTS else dice.pick(BILLS).format(t=thing)))  # fmt: skip
        events.append(Event(quarrel + 1, "peace", person.home, person.name,
                            dice.pick(PEACE).format(a=person.name, b=person.friend), dice.pick(REASONS)))  # fmt: skip
    for shop in shops:
        events.append(Event(born[shop.owner] + dice.integer(25, 40), "shop", shop.place, shop.owner,
                            f"{shop.owner} opened {shop.name} in {shop.place}", ""))  # fmt: skip
    return tuple(sorted(events, key=lambda e: (e.year, e.text)))
