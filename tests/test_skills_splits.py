"""Train, validation and test never share a problem."""

from __future__ import annotations

from collections import Counter

import pytest

from sprout.common.errors import UserError
from sprout.common.hashing import SPLITS, split_of
from sprout.common.messages import Message
from sprout.world import Dice, Problem, Verdict, World, WorldConfig, build_world
from sprout.world.skills import SKILLS, Skill, sample

SAMPLES = 100_000


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig())


@pytest.fixture(scope="module")
def drawn(world: World) -> list[Problem]:
    """As many problems of every skill."""
    dice, each = Dice(11), SAMPLES // len(SKILLS)
    return [skill.make(world, dice) for skill in SKILLS.values() for _ in range(each)]


def test_all_sixteen_skills_are_there() -> None:
    assert set(SKILLS) == set(
        "small_talk recall unknown lookup reading followup arithmetic calculator word_problems spelling sorting dates "
        "format story summary refusal".split()
    )
    assert all(name == skill.name and skill.share > 0 for name, skill in SKILLS.items())


@pytest.fixture(scope="module")
def shared(drawn: list[Problem]) -> dict[str, list[tuple[str, ...]]]:
    """By skill, the questions that stand in one split under one key and in another under another key."""
    split_by_question: dict[tuple[str, ...], str] = {}
    found: dict[str, list[tuple[str, ...]]] = {name: [] for name in SKILLS}
    for problem in drawn:
        question, split = tuple(m.content for m in problem.prompt), split_of(problem.key)
        if split_by_question.setdefault(question, split) != split:
            found[problem.skill].append((problem.key, *question))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SKILLS))
def test_no_question_is_in_two_splits(
    drawn: list[Problem], shared: dict[str, list[tuple[str, ...]]], name: str
) -> None:
    """A key has one split by construction; what could go wrong is that the same words get two keys, in the same skill
    or in another one, with the same tools or with others."""
    assert len(drawn) == SAMPLES
    assert not shared[name], shared[name][:5]


def test_no_key_is_in_two_splits(world: World) -> None:
    """What `sample` gives for one split, it never gives for another."""
    dice, keys = Dice(12), {split: set[str]() for split in SPLITS}
    for split in SPLITS:
        keys[split] = {sample(name, world, dice, split).key for name in SKILLS for _ in range(60)}
    assert all(keys.values())
    assert not keys["train"] & keys["test"] and not keys["train"] & keys["validation"]
    assert not keys["validation"] & keys["test"]


@pytest.mark.slow
def test_twins_stay_together(drawn: list[Problem]) -> None:
    twins = [p for p in drawn if p.twin]
    assert twins
    assert all(p.twin is not None and split_of(p.twin.key) == split_of(p.key) for p in twins)


@pytest.mark.slow
def test_a_conversation_shows_no_problem_of_another_split(drawn: list[Problem]) -> None:
    """The turns before the last are learned too: none may be a question, with its answer, that the test asks."""
    kept = {
        (p.prompt[0].content, p.reply[-1].content): p.key
        for p in drawn
        if len(p.prompt) == 1 and split_of(p.key) != "train"
    }
    told = []
    for problem in drawn:
        if split_of(problem.key) != "train":
            continue
        asked = ""
        for message in problem.prompt:
            asked = message.content if message.role == "user" else asked
            if message.role == "assistant" and (asked, message.content) in kept:
                told.append((problem.key, asked))
    assert not told, told[:5]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SKILLS))
def test_every_split_has_its_share(drawn: list[Problem], name: str) -> None:
    """Problems of a split are neither missing nor a few that weigh a lot."""
    mine = [p for p in drawn if p.skill == name]
    share = Counter(split_of(p.key) for p in mine)
    assert 0.70 < share["train"] / len(mine) < 0.90, share
    for split in ("validation", "test"):
        keys = Counter(p.key for p in mine if split_of(p.key) == split)
        assert len(keys) >= 30, f"only {len(keys)} different {split} problems"
        assert max(keys.values()) < 0.08 * sum(keys.values()), keys.most_common(3)


@pytest.mark.parametrize("split", SPLITS)
def test_sample_gives_the_split_asked_for(world: World, split: str) -> None:
    dice = Dice(3)
    for name in SKILLS:
        problems = [sample(name, world, dice, split) for _ in range(15)]
        assert {split_of(p.key) for p in problems} == {split}
        assert {p.skill for p in problems} == {name}


def test_sample_gives_up_with_a_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = next(k for k in map(str, range(100)) if split_of(k) == "train")

    def make(world: World, dice: Dice) -> Problem:
        return Problem("one", key, (Message("user", "?"),), (Message("assistant", "!"),), "!")

    monkeypatch.setitem(SKILLS, "one", Skill("one", 1.0, make, lambda problem, reply: Verdict(True)))
    assert sample("one", world, Dice(1), "train").key == key
    with pytest.raises(UserError, match="no test problem"):
        sample("one", world, Dice(1), "test")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_problems(world: World) -> None:
    for name in SKILLS:
        assert sample(name, world, Dice(5), "train") == sample(name, build_world(WorldConfig()), Dice(5), "train")
