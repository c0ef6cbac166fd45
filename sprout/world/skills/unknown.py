"""Saying that one does not know a person or thing that does not exist."""

from __future__ import annotations

from sprout.common.messages import Message, ToolCall
from sprout.world.dice import Dice
from sprout.world.names import ENDS_PLACE, ENDS_THING, make_name, person_name
from sprout.world.skills.common import DONT_KNOW, assistant, mentions, user
from sprout.world.state import RELATIONS, World
from sprout.world.types import Problem, Reply, Verdict, final_text
from sprout.world.wording import ask

NAME, SHARE = "unknown", 1.2


def made_up_name(world: World, dice: Dice) -> tuple[str, str]:
    """(kind, name) of something that is nowhere in the world."""
    family = world.config.name_family
    kind = dice.weighted(("person", "place", "invention"), (4, 1, 1))
    while True:
        if kind == "person":
            name = " ".join(person_name(dice, family))
        elif kind == "place":
            name = make_name(dice, ENDS_PLACE, family)
        else:
            name = "the " + make_name(dice, ENDS_THING, family).lower()
        if name not in world.by_name:
            return kind, name


def make(world: World, dice: Dice) -> Problem:
    """A question about something made up (or, without tools, about somebody never told about)."""
    tools = ("calculator", "lookup") if dice.chance(0.5) else ()
    kind, name = made_up_name(world, dice)
    if not tools and dice.chance(0.2):
        kind, name = "person", dice.pick(world.strangers).name
    relation = dice.pick(RELATIONS[kind])
    sentence = DONT_KNOW.format(name=name)
    reply: list[Message] = [assistant(sentence)]
    if tools:
        reply = [Message("assistant", "", ToolCall.of("lookup", name=name)), Message("tool", world.lookup(name)), *reply]
    others = sorted({f.value for f in world.told if f.relation == relation})
    return Problem(
        NAME, f"unknown:{name}", (user(ask(name, relation, dice)),), tuple(reply), sentence, tools, truth={"others": others}
    )


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply says that it doesn't know, and asserts nothing."""
    if made_up(problem, reply):
        return Verdict(False, "makes something up")
    right = "i do not know" in final_text(reply).lower()
    return Verdict(right, "" if right else "does not say that it does not know")


def made_up(problem: Problem, reply: Reply) -> bool:
    """Whether the reply asserts something about what does not exist: a value, or any statement that isn't 'I do not know'."""
    text = final_text(reply)
    if any(mentions(text, value) for value in problem.truth["others"]):
        return True
    return bool(text) and "do not know" not in text.lower()
