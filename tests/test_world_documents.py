"""Documents: truthful sidecars, clean language, many words, few openings that come again."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from sprout.world import Dice, Document, World, WorldConfig, build_world
from sprout.world.documents import KINDS, PRACTICE, write_document
from sprout.world.vocabulary import DEEDS, NOUNS, QUALITIES, going_on, manner, past, plural
from sprout.world.wording import ASK, ASK_FRAMES, FRAMES, SAY, articles, ask, say


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig())


@pytest.fixture(scope="module")
def many(world: World) -> list[Document]:
    dice = Dice(11)
    return [write_document(world, dice) for _ in range(12_000)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_writes_and_says_the_same_for_the_same_seed(kind: str, world: World) -> None:
    texts = [KINDS[kind](world, Dice(seed)).text for seed in range(30)]
    assert texts == [KINDS[kind](world, Dice(seed)).text for seed in range(30)]
    assert len(set(texts)) == 30
    for text in texts:
        assert 10 < len(text) < 1500 and text == text.strip() and "{" not in text.replace('{"', "").replace("{'", "")


def test_the_facts_of_the_sidecar_are_told(world: World, many: list[Document]) -> None:
    facts = {f.id: f for f in world.facts()}
    told = 0
    for document in many[:4000]:
        for id in document.facts:
            fact = facts[id]
            told += 1
            assert fact.value.lower() in document.text.lower(), (document.kind, fact, document.text)
            first = fact.name.removeprefix("the ").split()[0]
            assert first.lower() in document.text.lower(), (document.kind, fact, document.text)
    assert told > 2000


def test_every_fact_is_told_often(world: World, many: list[Document]) -> None:
    count = Counter(id for document in many for id in document.facts)
    assert min(count[f.id] for f in world.facts()) >= 3


def test_bits_bound_how_much_was_chosen(many: list[Document]) -> None:
    assert all(d.bits > 5 for d in many)
    assert len({d.text for d in many}) > 0.995 * len(many)


def test_there_are_many_words(many: list[Document]) -> None:
    words = {w for d in many for w in re.findall(r"(?<![A-Za-z'])[a-z]+(?![A-Za-z])", d.text)}
    assert len(words) >= 3000


def test_no_opening_comes_again_and_again(many: list[Document]) -> None:
    openings = Counter(" ".join(d.text.split()[:3]) for d in many)
    (text, count), *_ = openings.most_common(1)
    assert count <= 0.013 * len(many), f"{text!r} opens {count} of {len(many)} documents"


def test_articles_fit(many: list[Document]) -> None:
    for d in many:
        if d.kind in PRACTICE:  # 'How many a are in crab?' is right
            continue
        assert not re.search(r"\b[Aa] [aeio][a-z]", d.text), d.text
        assert not re.search(r"\b[Aa]n [bcdfgjklmnpqrstvwxz][a-z]", d.text), d.text
    assert articles("A owl saw a unicorn and a egg.") == "An owl saw a unicorn and an egg."


def test_programs_print_what_they_say(many: list[Document]) -> None:
    sums = 0
    for d in many:
        if d.kind == "program" and (
            found := re.search(r"= \[([\d, ]+)\]\nprint\(sum\(\w+\)\)\nOutput:\n(\d+)$", d.text)
        ):
            sums += 1
            assert sum(map(int, found[1].split(", "))) == int(found[2])
    assert sums > 20


@pytest.mark.parametrize("relation", SAY)
def test_a_fact_has_twenty_wordings(relation: str) -> None:
    dice = Dice(1)
    assert len(SAY[relation]) * len(set(FRAMES)) >= 20
    assert len({say("Mira Tolan", relation, "X", dice) for _ in range(2000)}) >= 20
    assert len(ASK[relation]) * len(set(ASK_FRAMES)) >= 10
    assert len({ask("Mira Tolan", relation, dice) for _ in range(2000)}) >= 10


def test_forms_of_words() -> None:
    assert [plural(w) for w in ("torch", "canopy", "raft", "tray")] == ["torches", "canopies", "rafts", "trays"]
    assert [past(w) for w in ("carve", "copy", "grab", "load")] == ["carved", "copied", "grabbed", "loaded"]
    assert [going_on(w) for w in ("carve", "copy", "grab", "dye")] == ["carving", "copying", "grabbing", "dyeing"]
    assert [manner(w) for w in ("happy", "noble", "tragic", "grim")] == ["happily", "nobly", "tragically", "grimly"]
    assert all(w.isalpha() and w.islower() for w in (*NOUNS, *DEEDS, *QUALITIES))
