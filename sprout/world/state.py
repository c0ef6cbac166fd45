"""Layer 1, the state: people, places, shops, inventions and what is true of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2

from sprout.common.errors import UserError
from sprout.world.dice import Dice
from sprout.world.events import Event, simulate
from sprout.world.lexicon import (
    COLOURS,
    DISHES,
    INSTRUMENTS,
    MATERIALS,
    PETS,
    PLACE_KINDS,
    PRODUCTS,
    REGIONS,
    RIVERS,
    SHOP_GOODS,
    SHOP_TRADES,
    TRADES,
    WEEKDAYS,
)
from sprout.world.names import ENDS_PLACE, ENDS_THING, make_name, person_name

PERSON_RELATIONS = ("home", "trade", "born", "food", "pet", "instrument", "colour", "friend")
PLACE_RELATIONS = ("kind", "region", "river", "founded", "known_for")
SHOP_RELATIONS = ("place", "owner", "opens", "closed_on")
INVENTION_RELATIONS = ("inventor", "year", "material")
RELATIONS = {
    "person": PERSON_RELATIONS,
    "place": PLACE_RELATIONS,
    "shop": SHOP_RELATIONS,
    "invention": INVENTION_RELATIONS,
}
FIRST_YEAR, LAST_YEAR = 1600, 1960  # places are founded from here on; the youngest people are born here


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """How much the world holds, how often it is told, and how much is practice: knowledge and skill are separate dials."""

    seed: int = 1
    """another seed, another world"""
    people: int = 56
    """people told about in documents: what a model can remember"""
    strangers: int = 3000
    """people in the almanac, never told about: what it has to look up"""
    places: int = 14
    """places where they live"""
    shops: int = 12
    """shops, with an owner, hours and prices"""
    inventions: int = 10
    """things that somebody of the world invented"""
    fact_share: float = 1.0
    """share of the documents, practice apart, that tell this world's facts; the others tell of people met only once"""
    skill_share: float = 0.4
    """share of the documents that practise skills in plain prose"""
    name_family: int = 0
    """0 or 1: worlds of different families share no name"""

    def __post_init__(self) -> None:
        for name, least in (("people", 8), ("strangers", 20), ("places", 2), ("shops", 1), ("inventions", 1)):
            if getattr(self, name) < least:
                raise UserError(f"the world needs at least {least} {name}, not {getattr(self, name)}.")
        if not 0 <= self.fact_share <= 1:
            raise UserError(f"fact_share is {self.fact_share}; expected a share from 0 (no fact is told) to 1.")
        if not 0 <= self.skill_share < 1:
            raise UserError(f"skill_share is {self.skill_share}; expected a share from 0 to below 1.")
        if self.name_family not in (0, 1):
            raise UserError(f"name_family is {self.name_family}; expected 0 or 1.")


@dataclass(frozen=True, slots=True)
class Fact:
    """`value` is the `relation` of `subject`, e.g. ('person:3', 'Mira Tolan', 'home', 'Olmen', 3.6 bits)."""

    id: str  # "person:3/home"
    subject: str  # entity id
    name: str  # the subject's name in text
    relation: str
    value: str
    bits: float


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody. `friend` is a full name, `born` a year, `home` a place's name."""

    id: str
    first: str
    family: str
    female: bool
    born: int
    home: str
    trade: str
    food: str
    pet: str
    instrument: str
    colour: str
    friend: str

    @property
    def name(self) -> str:
        return f"{self.first} {self.family}"

    @property
    def he(self) -> str:
        return "she" if self.female else "he"

    @property
    def him(self) -> str:
        return "her" if self.female else "him"

    @property
    def his(self) -> str:
        return "her" if self.female else "his"


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere."""

    id: str
    name: str
    kind: str
    region: str
    river: str
    founded: int
    known_for: str


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop; goods have whole prices in coins, `opens` and `closes` are hours."""

    id: str
    name: str
    place: str
    owner: str
    goods: tuple[tuple[str, int], ...]
    opens: int
    closes: int
    closed_on: str


@dataclass(frozen=True, slots=True)
class Invention:
    """A thing somebody of this world thought up."""

    id: str
    name: str
    inventor: str
    year: int
    material: str


Entity = Person | Place | Shop | Invention


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is true. Built once by `build_world`, never changed."""

    config: WorldConfig
    people: tuple[Person, ...]
    strangers: tuple[Person, ...]
    places: tuple[Place, ...]
    shops: tuple[Shop, ...]
    inventions: tuple[Invention, ...]
    events: tuple[Event, ...]
    by_name: dict[str, Entity]
    told: tuple[Fact, ...]

    def facts(self) -> tuple[Fact, ...]:
        """Every fact that documents tell."""
        return self.told

    def person(self, name: str) -> Person | None:
        """The told person or stranger of that full name."""
        found = self.by_name.get(name)
        return found if isinstance(found, Person) else None

    def lookup(self, name: str) -> str:
        """What the almanac says of a name: one line, or 'No entry.' (the `lookup` tool)."""
        found = self.by_name.get(name.strip())
        return "No entry." if found is None else almanac_line(found)


def kind_of(entity: Entity) -> str:
    """'person', 'place', 'shop' or 'invention'."""
    return type(entity).__name__.lower()


def value_of(entity: Entity, relation: str) -> str:
    """The value of a relation as text."""
    return str(getattr(entity, relation))


def almanac_line(entity: Entity) -> str:
    """An entity as the almanac prints it: 'Mira Tolan: home Olmen; trade baker; ...'."""
    parts = (f"{relation.replace('_', ' ')} {value_of(entity, relation)}" for relation in RELATIONS[kind_of(entity)])
    return f"{entity.name}: {'; '.join(parts)}."


def _person(dice: Dice, id: str, homes: tuple[str, ...], friends: tuple[str, ...], family: int = 0) -> Person:
    first, last = person_name(dice, family)
    return Person(
        id, first, last, dice.chance(0.5), dice.integer(1900, LAST_YEAR), dice.pick(homes), dice.pick(TRADES),
        dice.pick(DISHES), dice.pick(PETS), dice.pick(INSTRUMENTS), dice.pick(COLOURS), dice.pick(friends),
    )  # fmt: skip


def fresh_person(dice: Dice, homes: tuple[str, ...] | None = None) -> Person:
    """An invented person who is not in the world, living in `homes` or in a place as invented."""
    homes = homes or (make_name(dice, ENDS_PLACE),)
    friend = " ".join(person_name(dice))
    return _person(dice, "fresh:0", homes, (friend,))


def build_world(config: WorldConfig) -> World:
    """The world of a config; the same for the same config, on every machine."""
    dice, family = Dice(config.seed), config.name_family
    places: list[Place] = []
    for i in range(config.places):
        name = _unused(lambda: make_name(dice, ENDS_PLACE, family), {p.name for p in places})
        year = dice.integer(FIRST_YEAR, 1850)
        places.append(
            Place(
                f"place:{i}",
                name,
                dice.pick(PLACE_KINDS),
                dice.pick(REGIONS),
                dice.pick(RIVERS),
                year,
                dice.pick(PRODUCTS),
            )
        )
    homes = tuple(p.name for p in places)
    people: list[Person] = []
    firsts: set[str] = set()
    for i in range(config.people):
        while (person := _person(dice, f"person:{i}", homes, ("",), family)).first in firsts:
            pass
        firsts.add(person.first)
        people.append(person)
    order = list(range(len(people)))
    dice.shuffle(order)
    for a, b in zip(order, order[1:] + order[:1], strict=True):  # a ring of friends
        people[a] = replace(people[a], friend=people[b].name)
    names = tuple(p.name for p in people)
    strangers: dict[str, Person] = {}
    while len(strangers) < config.strangers:
        person = _person(dice, f"stranger:{len(strangers)}", homes, names, family)
        if person.first not in firsts:
            strangers[person.name] = person
    shops: list[Shop] = []
    keepers = [p for p in people if p.trade in SHOP_TRADES] or people
    for i in range(config.shops):
        owner = keepers[i % len(keepers)]
        trade = owner.trade if owner.trade in SHOP_GOODS else dice.pick(SHOP_TRADES)
        goods = tuple((good, dice.integer(2, 30)) for good in SHOP_GOODS[trade])
        name = _unused(
            lambda: f"the {dice.pick(COLOURS).capitalize()} {dice.pick(PETS).capitalize()}", {s.name for s in shops}
        )
        hour = dice.integer(6, 10)
        shops.append(Shop(f"shop:{i}", name, owner.home, owner.name, goods, hour, hour + 9, dice.pick(WEEKDAYS)))
    inventions: list[Invention] = []
    for i in range(config.inventions):
        inventor = dice.pick(people)
        name = "the " + _unused(lambda: make_name(dice, ENDS_THING, family).lower(), {v.name[4:] for v in inventions})
        year = inventor.born + dice.integer(20, 50)
        inventions.append(Invention(f"invention:{i}", name, inventor.name, year, dice.pick(MATERIALS)))
    told_entities: list[Entity] = [*people, *places, *shops, *inventions]
    by_name: dict[str, Entity] = {e.name: e for e in [*strangers.values(), *told_entities]}
    choices = {
        "home": len(homes), "trade": len(TRADES), "born": LAST_YEAR - 1900 + 1, "food": len(DISHES), "pet": len(PETS),
        "instrument": len(INSTRUMENTS), "colour": len(COLOURS), "friend": len(people) - 1, "kind": len(PLACE_KINDS),
        "region": len(REGIONS), "river": len(RIVERS), "founded": 1850 - FIRST_YEAR + 1, "known_for": len(PRODUCTS),
        "place": len(homes), "owner": len(people), "opens": 5, "closed_on": 7, "inventor": len(people), "year": 31,
        "material": len(MATERIALS),
    }  # fmt: skip
    told = tuple(
        Fact(f"{e.id}/{r}", e.id, e.name, r, value_of(e, r), log2(choices[r]))
        for e in told_entities
        for r in RELATIONS[kind_of(e)]
    )
    events = simulate(dice, people, places, shops)
    return World(
        config,
        tuple(people),
        tuple(strangers.values()),
        tuple(places),
        tuple(shops),
        tuple(inventions),
        events,
        by_name,
        told,
    )


def _unused(make: Callable[[], str], used: set[str]) -> str:
    while (name := make()) in used:
        pass
    return name
