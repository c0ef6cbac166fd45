"""Sorting, comparing, largest and smallest."""

from __future__ import annotations

from collections.abc import Sequence

from sprout.world.dice import Dice
from sprout.world.lexicon import ANIMALS, FOODS, OBJECTS
from sprout.world.skills.common import assistant, some_tools, stepwise, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict

NAME, SHARE = "sorting", 1.8
ASKS = {
    "sort": ("Sort {i}.", "Put in order: {i}.", "Order these: {i}.", "Please sort {i}.", "Sort from small to large: {i}."),
    "largest": ("Which is the largest: {i}?", "What is the largest of {i}?", "Find the largest: {i}.", "Name the largest of {i}."),
    "smallest": ("Which is the smallest: {i}?", "What is the smallest of {i}?", "Find the smallest: {i}.", "Name the smallest of {i}."),
    "compare": ("Which is larger, {a} or {b}?", "Is {a} or {b} the larger number?", "What is more, {a} or {b}?", "Compare {a} and {b}: which is larger?"),
    "words": ("Which comes first in the alphabet, {a} or {b}?", "By the alphabet, is {a} or {b} first?", "Which is first in a dictionary, {a} or {b}?"),
}  # fmt: skip


def make(world: World, dice: Dice) -> Problem:
    """Three to five numbers of two digits (two of two or three where they are compared), or two words with different
    first letters. Numbers are sorted by inserting one after the other ('80: 63, 64, 80, 98'), the largest is found by
    going through, words are compared by their letters' numbers in the alphabet."""
    task = dice.weighted(tuple(ASKS), (4, 1.5, 1.5, 1.5, 2.5))
    if task == "words":
        items = dice.sample(dice.pick((ANIMALS, FOODS, OBJECTS)), 2)
        while items[0][0] == items[1][0]:
            items = dice.sample(dice.pick((ANIMALS, FOODS, OBJECTS)), 2)
        answer = min(items)
        places = [f"{ord(w[0]) - 96:02d}" for w in items]
        lines = [", ".join(f"{n} {w}" for n, w in zip(places, items, strict=True)), f"{', '.join(places)}: {min(places)}"]
    else:
        low, high, count = (100, 999, 2) if task == "compare" and dice.chance(0.5) else (10, 99, dice.integer(3, 5))
        numbers = dice.sample(range(low, high + 1), 2 if task == "compare" else count)
        items, lines = [str(n) for n in numbers], []
        if task == "sort":
            lines = insertions(numbers)
            answer = ", ".join(map(str, sorted(numbers)))
        else:
            best, so_far = (min if task == "smallest" else max), numbers[0]
            for number in numbers[1:] if task != "compare" else ():
                lines.append(f"{so_far}, {number}: {best(so_far, number)}")
                so_far = best(so_far, number)
            answer = str(best(numbers))
    question = dice.pick(ASKS[task]).format(i=", ".join(items), a=items[0], b=items[1])
    lines.append(f"The answer is {answer}.")
    key = f"sorting:{task}:{','.join(sorted(items))}"
    reply = (assistant("\n".join(lines)),)
    return Problem(NAME, key, (user(question),), reply, answer, some_tools(dice), steps=tuple(lines))


def insertions(numbers: Sequence[int]) -> list[str]:
    """The steps of insertion sort, a line for each number."""
    return [f"{n}: {', '.join(map(str, sorted(numbers[:i])))}" for i, n in enumerate(numbers, 1)]


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the answer is; tells the first wrong step."""
    return stepwise(problem, reply)
