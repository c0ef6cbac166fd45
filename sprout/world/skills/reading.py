"""Reading a passage about several people and answering from it, scored by counterfactual twins."""

from __future__ import annotations

from dataclasses import replace

from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, only_value, some_tools, user
from sprout.world.state import World, fresh_person, value_of
from sprout.world.types import Problem, Reply, Verdict
from sprout.world.wording import answer, ask, clause, articles, capital

NAME, SHARE = "reading", 2.2
RELATIONS = ("home", "trade", "food", "pet", "instrument", "colour")
LEADS = ("Read this: ", "Here is a text: ", "Text: ", "", "Please read: ")


def make(world: World, dice: Dice) -> Problem:
    """Two or three fresh people, each with the same one or two relations told, one of them asked for. The twin has the
    asked-for values of two people swapped, in the same words."""
    homes = tuple(p.name for p in world.places)
    count = dice.integer(2, 3)
    people = [fresh_person(dice, homes) for _ in range(count)]
    relations = dice.sample(RELATIONS, dice.integer(1, 2))
    asked = dice.pick(relations)
    pool = sorted({value_of(p, asked) for p in world.strangers[:200]})
    values = dice.sample(pool, count)  # all different, so that a swap changes the answer
    told = [(person, r) for r in relations for person in people]
    dice.shuffle(told)
    wordings = [clause("{n}", r, "{v}", dice, "{his}") for _, r in told]

    def passage(asked_values: list[str]) -> str:
        sentences = []
        for (person, relation), wording in zip(told, wordings, strict=True):
            value = asked_values[people.index(person)] if relation == asked else value_of(person, relation)
            said = wording.replace("{n}", person.first).replace("{v}", value).replace("{his}", person.his)
            sentences.append(articles(capital(said)) + ".")
        return " ".join(sentences)

    target = dice.integer(0, count - 1)
    lead, question = dice.pick(LEADS), ask(people[target].first, asked, dice)
    others = [*pool]
    swap = (target + 1) % count
    swapped = list(values)
    swapped[target], swapped[swap] = values[swap], values[target]

    tools = some_tools(dice)

    def problem(asked_values: list[str]) -> Problem:
        value = asked_values[target]
        return Problem(
            NAME, f"reading:{','.join(p.first for p in people)}:{asked}:{values}:{target}",
            (user(f"{lead}{passage(asked_values)}\n{question}"),), (assistant(answer(people[target].first, asked, value)),),
            value, tools, truth={"others": others}, difficulty=count,
        )  # fmt: skip

    return replace(problem(values), twin=problem(swapped))


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply has the passage's value alone."""
    return only_value(reply, problem.answer, problem.truth["others"])
