"""Looking a fact up with the `lookup` tool when it was never taught."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.skills.common import TOOLS, assistant, call_lookup, candidates, looked_up, relation_of, states, user
from sprout.world.state import World, value_of
from sprout.world.types import Problem, Reply, Verdict
from sprout.world.wording import answer, ask

NAME, SHARE = "lookup", 1.1


def make(world: World, dice: Dice) -> Problem:
    """A question about somebody in the almanac of whom no document tells."""
    person = dice.pick(world.strangers)
    relation = relation_of(person, dice)
    value = value_of(person, relation)
    reply = (*call_lookup(world, person.name), assistant(answer(person.name, relation, value)))
    prompt = (user(ask(person.name, relation, dice)),)
    truth = {"name": person.name, "others": list(candidates(world, relation))}
    steps = (f"lookup {person.name}", reply[-1].content)
    return Problem(NAME, f"lookup:{person.name}:{relation}", prompt, reply, value, TOOLS, steps, truth)


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the right name was looked up and the reply states the right value alone."""
    name = problem.truth["name"]
    if name not in looked_up(reply):
        return Verdict(False, f"did not look up {name!r}", 0)
    verdict = states(reply, name, problem.answer, problem.truth["others"])
    return verdict if verdict.right else Verdict(False, verdict.why, 1)
