"""Reading a passage about several people and answering from it, scored by counterfactual twins."""

from __future__ import annotations

from dataclasses import replace

from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, candidates, some_tools, states, user
from sprout.world.state import Person, World, fresh_person, value_of
from sprout.world.types import Problem, Reply, Verdict
from sprout.world.wording import FRAMES, answer, articles, ask, capital, clause

NAME, SHARE = "reading", 3.4
RELATIONS = ("home", "trade", "food", "pet", "instrument", "colour")
LEADS = ("Read this: ", "Here is a text: ", "Text: ", "", "Please read: ")
# Facts told of each of two or of three people, and how often: hard enough to need reading, with easy ones to begin on.
FACTS_EACH = {2: ((1, 2), (0.5, 0.5)), 3: ((1, 2), (0.8, 0.2))}
FRAMED = 0.05  # share of sentences with an opening or a closing around the clause
PLAIN = 0.9  # share of sentences that begin with the name; the others may be in any wording


def different_people(world: World, dice: Dice, count: int) -> list[Person]:
    """Fresh people with different first names, living in the world's places."""
    homes = tuple(p.name for p in world.places)
    while True:
        people = [fresh_person(dice, homes) for _ in range(count)]
        if len({p.first for p in people}) == count:
            return people


def make(world: World, dice: Dice) -> Problem:
    """Two or three fresh people, each with the same relations told, one of them asked for. The twin has the asked-for
    values of two people swapped, in the same words."""
    count = dice.integer(2, 3)
    people = different_people(world, dice, count)
    relations = dice.sample(RELATIONS, dice.weighted(*FACTS_EACH[count]))
    asked = dice.pick(relations)
    others = candidates(world, asked)
    values = dice.sample(others, min(count, len(others)))  # all different, so that a swap changes the answer
    values += [values[-1]] * (count - len(values))  # unless the world has only two places
    told = [(i, r) for r in relations for i in range(count)]
    dice.shuffle(told)
    patterns = [_pattern(relation, dice) for _, relation in told]

    def passage(asked_values: list[str]) -> str:
        sentences = []
        for (i, relation), pattern in zip(told, patterns, strict=True):
            value = asked_values[i] if relation == asked else value_of(people[i], relation)
            said = pattern.replace("{n}", people[i].first).replace("{v}", value).replace("{his}", people[i].his)
            sentences.append(capital(articles(" " + said)[1:]) + ".")
        return " ".join(sentences)

    target = dice.integer(0, 1)  # the first two always differ in value; who is told first is random
    name, lead, tools = people[target].first, dice.pick(LEADS), some_tools(dice)
    question = ask(name, asked, dice)
    key = f"reading:{','.join(p.first for p in people)}:{asked}:{','.join(values)}:{target}"

    def problem(asked_values: list[str]) -> Problem:
        value = asked_values[target]
        return Problem(
            NAME, key, (user(f"{lead}{passage(asked_values)}\n{question}"),), (assistant(answer(name, asked, value)),),
            value, tools, truth={"name": name, "others": list(others)}, difficulty=count,
        )  # fmt: skip

    return replace(problem(values), twin=problem([values[1], values[0], *values[2:]]))


def _pattern(relation: str, dice: Dice) -> str:
    """A wording with holes {n}, {v} and {his}, so that both twins say the same."""
    said = clause("{n}", relation, "{v}", dice, "{his}")
    if dice.chance(PLAIN):
        while not said.startswith("{n} "):
            said = clause("{n}", relation, "{v}", dice, "{his}")
    return dice.pick(FRAMES).replace("{c}", said) if dice.chance(FRAMED) else said


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply states the passage's value alone. The twin is a problem of its own: ask both."""
    return states(reply, problem.truth["name"], problem.answer, problem.truth["others"])
