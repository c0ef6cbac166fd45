"""What the world teaches one to do: a file per skill, all alike. `make` draws a problem with a right reply, `check`
judges any reply. Read `arithmetic.py` (steps), `lookup.py` (a tool) and `reading.py` (twins); the rest is like them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sprout.common.errors import UserError
from sprout.common.hashing import split_of
from sprout.world.dice import Dice
from sprout.world.skills import (
    arithmetic,
    calculator,
    dates,
    followup,
    format,
    lookup,
    reading,
    recall,
    refusal,
    small_talk,
    sorting,
    spelling,
    story,
    summary,
    unknown,
    word_problems,
)
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict


@dataclass(frozen=True, slots=True)
class Skill:
    """`share` is its part of the conversations, relative to the others."""

    name: str
    share: float
    make: Callable[[World, Dice], Problem]
    check: Callable[[Problem, Reply], Verdict]


SKILLS: dict[str, Skill] = {
    m.NAME: Skill(m.NAME, m.SHARE, m.make, m.check)
    for m in (
        small_talk, recall, unknown, lookup, reading, followup, arithmetic, calculator, word_problems, spelling,
        sorting, dates, format, story, summary, refusal,
    )
}  # fmt: skip

def sample(name: str, world: World, dice: Dice, split: str) -> Problem:
    """A problem of the skill from one split ('train', 'validation' or 'test'), by the hash of its key."""
    make, bits = SKILLS[name].make, dice.bits
    for _ in range(20_000):
        dice.bits = bits  # what was drawn and put back says nothing
        problem = make(world, dice)
        if split_of(problem.key) == split:
            return problem
    raise UserError(f"the skill {name} has no {split} problem in this world; make the world larger.")


__all__ = ["SKILLS", "Skill", "sample"]
