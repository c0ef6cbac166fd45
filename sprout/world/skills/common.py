"""What several skills share: talking about entities, and looking for values in a reply."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sprout.common.messages import Message
from sprout.world.dice import Dice
from sprout.world.state import RELATIONS, Entity, World, kind_of
from sprout.world.types import Problem, Reply, Verdict, final_text

DONT_KNOW = "I do not know anything about {name}."


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def mentions(text: str, value: str) -> bool:
    """Whether the value stands in the text as whole words, case aside."""
    return re.search(rf"(?<![\w-]){re.escape(value.lower())}(?![\w-])", text.lower()) is not None


def only_value(reply: Reply, value: str, others: Iterable[str]) -> Verdict:
    """Right if the final text has the value and none of the other candidates."""
    text = final_text(reply)
    if not mentions(text, value):
        return Verdict(False, f"expected {value!r}")
    # A candidate inside the right value ('Red' in 'the Red Owl') is no other value.
    wrong = next((o for o in others if o != value and o.lower() not in value.lower() and mentions(text, o)), None)
    return Verdict(wrong is None, f"says {wrong!r} besides {value!r}" if wrong else "")


def no_call(reply: Reply) -> bool:
    """Whether the reply used no tool."""
    return all(m.call is None for m in reply)


def told_entity(world: World, dice: Dice) -> Entity:
    """Somebody or something that documents tell of; people most of the time."""
    group = dice.weighted((world.people, world.places, world.shops, world.inventions), (5, 2, 2, 1))
    return dice.pick(group)


def relation_of(entity: Entity, dice: Dice) -> str:
    """One of the relations of an entity."""
    return dice.pick(RELATIONS[kind_of(entity)])


def some_tools(dice: Dice) -> tuple[str, ...]:
    """Half of all conversations have no tools, the others both."""
    return ("calculator", "lookup") if dice.chance(0.5) else ()


def exact(problem: Problem, reply: Reply) -> Verdict:
    """Right if the final text is the gold reply's, up to case and spaces."""
    got, want = " ".join(final_text(reply).lower().split()), " ".join(final_text(problem.reply).lower().split())
    return Verdict(got == want, "" if got == want else f"expected {want!r}")


def first_wrong(problem: Problem, reply: Reply) -> int | None:
    """The index of the first step (sentence) of the reply that isn't the gold step; None if all are right."""
    got = split_steps(final_text(reply))
    for i, step in enumerate(problem.steps):
        if i >= len(got) or got[i] != step:
            return i
    return None


def split_steps(text: str) -> tuple[str, ...]:
    """The steps of a reply: its lines, or its sentences where it has one line."""
    lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
    return tuple(lines)


def answer_line(text: str) -> str:
    """What stands behind the last 'The answer is', without the full stop; empty if there is none."""
    return text.rpartition("The answer is ")[2].strip().rstrip(".") if "The answer is " in text else ""


def stepwise(problem: Problem, reply: Reply) -> Verdict:
    """Right if the final answer is; the first wrong step is told in any case."""
    got = answer_line(final_text(reply))
    right = got == problem.answer
    return Verdict(right, "" if right else f"expected {problem.answer!r}, got {got!r}", first_wrong(problem, reply))
