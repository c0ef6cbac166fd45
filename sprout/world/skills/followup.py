"""A second question that leans on the first: 'And where does she work?'"""

from __future__ import annotations

from sprout.common.hashing import split_of
from sprout.common.messages import Message
from sprout.world.dice import Dice
from sprout.world.skills.common import TOOLS, assistant, call_lookup, candidates, some_tools, states, user
from sprout.world.state import Person, World, fresh_person, value_of
from sprout.world.types import Problem, Reply, Verdict
from sprout.world.wording import ASK, answer, ask, say

NAME, SHARE = "followup", 1.1
RELATIONS = ("home", "trade", "food", "pet", "instrument", "colour")
STARTS = ("And ", "And ", "Then ", "Also, ")


def lean(person: Person, relation: str, dice: Dice) -> str:
    """A question that names nobody: 'And where does she live?', 'Also, what is her trade?'"""
    asked = dice.pick(ASK[relation])
    if " of {n}" in asked:
        before, _, after = asked.partition(" of {n}")
        before, _, owned = before.rpartition("the ")
        asked = f"{before}{person.his} {owned}{after}"
    return dice.pick(STARTS) + asked.format(n=person.he) + "?"


def make(world: World, dice: Dice) -> Problem:
    """First a question about somebody and its answer, sometimes a second one; then the last, with a pronoun. The
    person is told about in documents, or in a passage, or has just been looked up."""
    source = dice.weighted(("told", "passage", "almanac"), (2, 2, 1))
    turns = dice.weighted((1, 2), (3, 1))
    second, *first = dice.sample(RELATIONS, len(RELATIONS))
    tools, lead = some_tools(dice), ""
    if source == "passage":
        person = fresh_person(dice, tuple(p.name for p in world.places))
        name, key, first = person.first, f"followup:{person.name}:{second}", first[:turns]
        told = [say(name, r, value_of(person, r), dice, person.his, frames=False) for r in (*first, second)]
        dice.shuffle(told)
        lead = " ".join(told) + "\n"
    else:
        person = dice.pick(world.people if source == "told" else world.strangers)
        base = f"recall:{person.id}/" if source == "told" else f"lookup:{person.name}:"
        # What the history says must not give away a problem that another skill keeps for its test.
        first = [r for r in first if split_of(base + r) == "train"][: turns if source == "told" else 1]
        if not first:
            return make(world, dice)
        # The same fact asked on its own is the same problem, so it is in the same split.
        name, key = person.name, base + second
        tools = TOOLS if source == "almanac" else tools
    asks = [lead + ask(name, first[0], dice), *(lean(person, r, dice) for r in first[1:])]
    prompt: list[Message] = []
    for i, (asked, relation) in enumerate(zip(asks, first, strict=True)):
        prompt.append(user(asked))
        if source == "almanac":
            prompt.extend(call_lookup(world, name))
        prompt.append(assistant(answer(person.he if i else name, relation, value_of(person, relation))))
    prompt.append(user(lean(person, second, dice)))
    value = value_of(person, second)
    reply = (assistant(answer(person.he, second, value)),)
    truth = {"name": name, "he": person.he, "others": list(candidates(world, second))}
    return Problem(NAME, key, tuple(prompt), reply, value, tools, truth=truth, difficulty=len(first))


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply states the value alone, of the person spoken of."""
    truth = problem.truth
    return states(reply, truth["name"], problem.answer, truth["others"], truth["he"])
