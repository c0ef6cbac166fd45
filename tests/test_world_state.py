"""The world's state: the same from the same seed, of the size asked for, and at peace with itself."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprout.common.errors import UserError
from sprout.world import World, WorldConfig, build_world
from sprout.world.lexicon import SHOP_GOODS
from sprout.world.state import LAST_YEAR, RELATIONS, kind_of, value_of

SMALL = WorldConfig(people=12, strangers=40, places=4, shops=3, inventions=3)


@pytest.fixture(
    scope="module",
    params=[WorldConfig(), SMALL, replace(SMALL, seed=9, name_family=1)],
    ids=["default", "small", "other"],
)
def world(request: pytest.FixtureRequest) -> World:
    return build_world(request.param)


def test_the_same_in_another_process(world: World) -> None:
    """Whatever the hash seed of that process is."""
    code = f"from sprout.world import *; w = build_world({world.config!r}); print(w.people, w.shops, w.events, w.facts()[-1])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"{world.people} {world.shops} {world.events} {world.facts()[-1]}\n"


def test_another_seed_is_another_world() -> None:
    one, two = (build_world(replace(SMALL, seed=seed)) for seed in (1, 2))
    assert not {p.name for p in one.people} & {p.name for p in two.people}


def test_families_share_no_name() -> None:
    one, two = (build_world(replace(SMALL, strangers=500, name_family=f)) for f in (0, 1))
    for names in (lambda w: {p.first for p in (*w.people, *w.strangers)}, lambda w: {p.family for p in (*w.people, *w.strangers)},
                  lambda w: {p.name for p in w.places}, lambda w: {v.name for v in w.inventions}):  # fmt: skip
        assert names(one) and not names(one) & names(two)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(8, 60),
    st.integers(20, 100),
    st.integers(2, 12),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**40),
)
def test_as_many_as_asked_for(people: int, strangers: int, places: int, shops: int, inventions: int, seed: int) -> None:
    w = build_world(WorldConfig(seed, people, strangers, places, shops, inventions))
    assert (len(w.people), len(w.strangers), len(w.places), len(w.shops), len(w.inventions)) == (
        people,
        strangers,
        places,
        shops,
        inventions,
    )
    per = {kind: len(r) for kind, r in RELATIONS.items()}
    told = people * per["person"] + places * per["place"] + shops * per["shop"] + inventions * per["invention"]
    assert len(w.facts()) == told == len({f.id for f in w.facts()})


def test_everything_agrees(world: World) -> None:
    people, places = {p.name: p for p in world.people}, {p.name for p in world.places}
    assert len(people) == len(world.people) == len({p.first for p in world.people}), (
        "a first name is enough to know who is meant"
    )
    for p in (*world.people, *world.strangers):
        assert p.home in places and p.friend in people and p.friend != p.name and 1900 <= p.born <= LAST_YEAR
    for shop in world.shops:
        owner = people[shop.owner]
        assert shop.place == owner.home and 0 < shop.opens < shop.closes <= 24
        assert {good for good, _ in shop.goods} in [set(goods) for goods in SHOP_GOODS.values()] and all(
            price > 0 for _, price in shop.goods
        )
        if owner.trade in SHOP_GOODS:
            assert {good for good, _ in shop.goods} == set(SHOP_GOODS[owner.trade]), "a baker sells bread"
    for v in world.inventions:
        assert people[v.inventor].born + 20 <= v.year <= people[v.inventor].born + 50


def test_facts_are_what_the_almanac_says(world: World) -> None:
    for fact in world.facts():
        entity = world.by_name[fact.name]
        assert value_of(entity, fact.relation) == fact.value and fact.id == f"{entity.id}/{fact.relation}"
        assert f"{fact.relation.replace('_', ' ')} {fact.value}" in world.lookup(fact.name) and fact.bits > 0
        assert fact.relation in RELATIONS[kind_of(entity)]
    assert world.lookup("Nobody At All") == "No entry."
    assert world.person(world.strangers[0].name) == world.strangers[0]


def test_strangers_are_never_told(world: World) -> None:
    told, firsts = {f.name for f in world.facts()}, {p.first for p in world.people}
    assert not told & {s.name for s in world.strangers} and not firsts & {s.first for s in world.strangers}


def test_history_is_possible(world: World) -> None:
    """Everybody is born and grown before they act, causes come before what they cause, and nobody is in two places."""
    people = {p.name: p for p in world.people}
    assert [e.year for e in world.events] == sorted(e.year for e in world.events)
    seen: dict[tuple[str, str], int] = {}
    for e in world.events:
        for name in (n for n in people if re.search(rf"\b{n}\b", e.text)):
            assert e.year >= people[name].born + 18, (e, people[name].born)
        seen[e.kind, e.who or e.place] = e.year
        if e.kind == "quarrel":
            assert people[e.who].friend in e.text and seen["move", e.who] < e.year
        if e.kind == "peace":
            assert seen["quarrel", e.who] < e.year
        if e.kind == "flood":
            assert seen["bridge", e.place] < e.year
        if e.kind == "repair":
            assert seen["flood", e.place] < e.year
        if e.kind == "move":
            assert people[e.who].home == e.place and e.text.endswith(f"to {e.place}")
    for place in world.places:
        assert min(e.year for e in world.events if e.place == place.name) >= place.founded


@pytest.mark.parametrize(
    "bad",
    [
        {"people": 7},
        {"strangers": 0},
        {"places": 1},
        {"shops": 0},
        {"inventions": -1},
        {"fact_share": 1.1},
        {"fact_share": -0.1},
        {"skill_share": 1.0},
        {"skill_share": -0.1},
        {"name_family": 2},
    ],
)
def test_a_world_that_can_not_be_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        WorldConfig(**bad)  # type: ignore[arg-type]
