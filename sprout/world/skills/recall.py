"""Recalling facts that the documents tell."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.skills.common import (
    assistant,
    candidates,
    no_call,
    relation_of,
    some_tools,
    states,
    told_entity,
    user,
)
from sprout.world.state import World, value_of
from sprout.world.types import Problem, Reply, Verdict
from sprout.world.wording import answer, ask

NAME, SHARE = "recall", 1.3


def make(world: World, dice: Dice) -> Problem:
    """A question about a told fact; it is answered from memory, tools or not. The key is the fact: what the test
    asks was told in documents and never asked in training."""
    entity = told_entity(world, dice)
    relation = relation_of(entity, dice)
    value, fact = value_of(entity, relation), f"{entity.id}/{relation}"
    question = ask(entity.name, relation, dice)
    truth = {"name": entity.name, "others": list(candidates(world, relation))}
    return Problem(
        NAME, f"recall:{fact}", (user(question),), (assistant(answer(entity.name, relation, value)),), value,
        some_tools(dice), truth=truth, facts=(fact,),
    )  # fmt: skip


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply states the value, no other of the same relation, and no tool was asked."""
    if not no_call(reply):
        return Verdict(False, "looked up what was taught")
    return states(reply, problem.truth["name"], problem.answer, problem.truth["others"])
