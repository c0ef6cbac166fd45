"""`sprout world` as text, and the figures of variety."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sprout.cli import main
from sprout.common.errors import UserError
from sprout.common.hashing import split_of
from sprout.world import Dice, World, WorldConfig, build_world
from sprout.world.documents import KINDS
from sprout.world.show import PARTS, show, variety
from sprout.world.skills import SKILLS, sample


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig())


@pytest.mark.slow
def test_everything_is_shown(world: World) -> None:
    text = show(world, "all", 1)
    assert all(f"Document kind: {kind} " in text for kind in KINDS)
    assert all(f"Skill: {name} " in text for name in SKILLS)
    assert world.people[0].name in text and world.strangers[0].name in text
    assert "Variety" in text and "the mix" in text
    assert "WRONG" not in text, "a gold reply does not pass its own checker"


@pytest.mark.parametrize("what", [pytest.param(w, marks=pytest.mark.slow) if w == "entropy" else w for w in (*PARTS[1:], *KINDS, *SKILLS)])
def test_every_name_shows_something_else_every_time_it_counts(world: World, what: str) -> None:
    one = show(world, what, 1)
    assert one == show(world, what, 1)
    assert what == "entropy" or len(show(world, what, 3)) > len(one)


def test_twins_are_shown(world: World) -> None:
    assert "its twin" in show(world, "reading", 1)


@pytest.mark.parametrize(("what", "count"), [("", 1), ("dragons", 1), ("all", 0), ("reading", -2)])
def test_wrong_requests_are_explained(world: World, what: str, count: int) -> None:
    with pytest.raises(UserError, match=r"choose one of|1 or more"):
        show(world, what, count)


def test_variety_tells_templates_from_text() -> None:
    same = variety(["the cat sat on the mat today"] * 10)
    assert same.opening == same.common_5 == same.nearest == 1.0
    assert same.words == 6 and same.distinct_2 == pytest.approx(0.1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    mixed = variety([" ".join(a + b for b in letters[:8]) for a in letters])
    assert mixed.nearest == 0.0 and mixed.distinct_2 == 1.0 and mixed.words == 26 * 8
    assert mixed.opening == pytest.approx(1 / 26) and mixed.compressed > same.compressed
    assert variety(["one two", "one two"]).entropy == pytest.approx(1.0)
    with pytest.raises(UserError, match="2 or more"):
        variety(["alone"])


def test_a_problem_that_was_put_back_costs_no_bits(world: World) -> None:
    """Else documents that practise skills would seem to hold more surprise than they do."""
    drawn = Dice(1)
    for _ in range(1000):
        before, state = drawn.bits, drawn.random.getstate()
        problem = SKILLS["unknown"].make(world, drawn)
        if split_of(problem.key) == "test":
            break
    again = Dice(1)
    assert sample("unknown", world, again, "test") == problem
    assert again.bits == pytest.approx(drawn.bits - before) and state != again.random.getstate()


@pytest.mark.slow
def test_a_reader_who_stops_early_hears_no_complaint() -> None:
    """`sprout world documents | head`: status 0 and not a word on the error stream, be it much or little to say."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}  # as people have it: little is written at the exit
    for count, reader, heard in ((60, "head -n 1", "Document kind: encyclopedia (share 3)\n"), (1, "true", "")):
        command = f"set -o pipefail; {sys.executable} -m sprout world documents --count {count} | {reader}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, heard, ""), reader


@pytest.mark.parametrize("words, starts", [pytest.param("entropy", "Variety", marks=pytest.mark.slow), ("facts --seed 2", "Facts"),
                                           ("primer --fact-share 0.5", "Document kind")])  # fmt: skip
def test_the_command_knows_every_name(words: str, starts: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["world", *words.split()])
    assert end.value.code == 0 and capsys.readouterr().out.startswith(starts)


def test_the_command_says_which_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["world", "dragons"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and "dragons" in said and "primer" in said
