"""Saying that one does not know a person or thing that does not exist."""

from __future__ import annotations

from sprout.common.messages import Message
from sprout.world.dice import Dice
from sprout.world.names import ENDS_PLACE, ENDS_THING, make_name, person_name
from sprout.world.skills.common import (
    TOOLS,
    VALUES,
    assistant,
    call_lookup,
    dont_know,
    foreign,
    mentioned,
    mentions,
    user,
    without,
)
from sprout.world.state import RELATIONS, World
from sprout.world.types import Problem, Reply, Verdict, final_text
from sprout.world.wording import ask

NAME, SHARE = "unknown", 1.3

ADMITS = ("do not know", "don't know", "never heard of")
WITHOUT_NAME = ("i do not know.", "i do not know that.", "sorry, i do not know.", "i don't know.")
# Where one of these stands, something is asserted, whatever else the reply says.
ASSERTS = (
    "lives", "works", "likes", "loves", "plays", "keeps", "has", "eats", "owns", "opens", "lies", "stands", "belongs",
    "is a", "is an", "is the", "is in", "is on", "is from", "is made", "is known", "is closed", "was born",
    "was founded", "was invented",
)  # fmt: skip


def made_up_name(world: World, dice: Dice) -> tuple[str, str]:
    """(kind, name) of something that is nowhere in the world."""
    family = world.config.name_family
    kind = dice.weighted(("person", "place", "invention"), (4, 1.5, 1.5))
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
    tools = TOOLS if dice.chance(0.5) else ()
    kind, name = made_up_name(world, dice)
    relation, key = dice.pick(RELATIONS[kind]), f"unknown:{name}"
    if not tools and dice.chance(0.2):
        kind, name = "person", dice.pick(world.strangers).name
        relation = dice.pick(RELATIONS[kind])
        key = f"lookup:{name}:{relation}"  # the same question with the almanac at hand is in the same split
    sentence = dont_know(kind, name)
    reply: tuple[Message, ...] = (assistant(sentence),)
    if tools:
        reply = (*call_lookup(world, name), *reply)
    truth = {"kind": kind, "name": name}
    return Problem(NAME, key, (user(ask(name, relation, dice)),), reply, sentence, tools, truth=truth)


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply says that it doesn't know this very name, and asserts nothing."""
    if made_up(problem, reply):
        return Verdict(False, "makes something up")
    text, name = final_text(reply), problem.truth["name"]
    if not any(a in text.lower() for a in ADMITS):
        return Verdict(False, "does not say that it does not know")
    if not mentions(text, name) and text.lower() not in WITHOUT_NAME:
        return Verdict(False, f"does not speak of {name!r}")
    if wrong := foreign(text, name):
        return Verdict(False, f"speaks of {wrong!r} instead of {name!r}")
    return Verdict(True)


def made_up(problem: Problem, reply: Reply) -> bool:
    """Whether the reply asserts something about what does not exist: a value, or any statement that isn't 'I do not
    know'."""
    text, name = final_text(reply), problem.truth["name"]
    if text and not any(a in text.lower() for a in ADMITS):
        return True
    rest = without(text, name)
    values = (v for r in RELATIONS[problem.truth["kind"]] for v in VALUES.get(r, ()))
    return mentioned(rest, ASSERTS) is not None or mentioned(rest, values) is not None or any(c.isdigit() for c in rest)
