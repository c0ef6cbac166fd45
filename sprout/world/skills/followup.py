"""A second question that leans on the first: 'And where does she work?'"""

from __future__ import annotations

from sprout.common.hashing import split_of
from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, only_value, some_tools, user
from sprout.world.state import World, fresh_person, value_of
from sprout.world.types import Problem, Reply, Verdict
from sprout.world.wording import ASK, answer, ask, say

NAME, SHARE = "followup", 1.2
RELATIONS = ("home", "trade", "food", "pet", "instrument", "colour")


def make(world: World, dice: Dice) -> Problem:
    """First a question about a told person, or about one of a passage, and its answer; then another with a pronoun."""
    first, second = dice.sample(RELATIONS, 2)
    if dice.chance(0.5):
        person, lead = dice.pick(world.people), ""
        name, key = person.name, f"recall:{person.id}/{second}"
        # What the history states must not give away a fact that `recall` keeps for its test.
        first = next((r for r in RELATIONS if r != second and split_of(f"recall:{person.id}/{r}") == "train"), first)
    else:
        person = fresh_person(dice, tuple(p.name for p in world.places))
        name, key = person.first, f"followup:{person.name}:{second}"
        told = [say(name, r, value_of(person, r), dice, person.his, frames=False) for r in (first, second)]
        dice.shuffle(told)
        lead = " ".join(told) + "\n"
    question = dice.pick(ASK[second]).format(n=person.he)
    question = question.replace("of she", "of her").replace("of he ", "of him ") + "?"
    if question.endswith("of he?"):
        question = question[:-3] + "him?"
    prompt = (
        user(lead + ask(name, first, dice)),
        assistant(answer(name, first, value_of(person, first))),
        user(dice.pick(("And ", "And ", "Then ", "Also, ")) + question),
    )
    value = value_of(person, second)
    others = sorted({value_of(p, second) for p in world.people})
    reply = (assistant(answer(person.he, second, value)),)
    return Problem(NAME, key, prompt, reply, value, some_tools(dice), truth={"others": others})


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply has the value alone."""
    return only_value(reply, problem.answer, problem.truth["others"])
