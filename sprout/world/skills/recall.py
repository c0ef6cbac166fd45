"""Recalling facts that the documents tell."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, no_call, only_value, relation_of, some_tools, told_entity, user
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
    others = sorted({f.value for f in world.told if f.relation == relation} - {entity.name})
    return Problem(
        NAME, f"recall:{fact}", (user(question),), (assistant(answer(entity.name, relation, value)),), value,
        some_tools(dice), truth={"others": others}, facts=(fact,),
    )  # fmt: skip


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply has the value, no other value of the same relation, and no tool was asked."""
    if not no_call(reply):
        return Verdict(False, "looked up what was taught")
    return only_value(reply, problem.answer, problem.truth["others"])
