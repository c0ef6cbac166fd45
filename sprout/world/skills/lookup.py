"""Looking a fact up with the `lookup` tool when it was never taught."""

from __future__ import annotations

import json

from sprout.common.messages import Message, ToolCall
from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, only_value, relation_of, user
from sprout.world.state import World, value_of
from sprout.world.types import Problem, Reply, Verdict
from sprout.world.wording import answer, ask

NAME, SHARE = "lookup", 1.4


def make(world: World, dice: Dice) -> Problem:
    """A question about somebody in the almanac of whom no document tells."""
    person = dice.pick(world.strangers)
    relation = relation_of(person, dice)
    value = value_of(person, relation)
    reply = (
        Message("assistant", "", ToolCall.of("lookup", name=person.name)),
        Message("tool", world.lookup(person.name)),
        assistant(answer(person.name, relation, value)),
    )
    others = sorted({value_of(p, relation) for p in world.people} - {person.name})
    prompt = (user(ask(person.name, relation, dice)),)
    truth = {"name": person.name, "others": others}
    return Problem(NAME, f"lookup:{person.name}:{relation}", prompt, reply, value, ("calculator", "lookup"), truth=truth)


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the right name was looked up and the reply has the right value alone."""
    names = [_argument(m.call) for m in reply if m.call and m.call.name == "lookup"]
    if problem.truth["name"] not in names:
        return Verdict(False, f"did not look up {problem.truth['name']!r}", 0)
    return only_value(reply, problem.answer, problem.truth["others"])


def _argument(call: ToolCall) -> str:
    try:
        return str(json.loads(call.arguments).get("name", ""))
    except (ValueError, AttributeError):
        return ""
