"""Sorting, comparing, largest and smallest."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import ANIMALS, FOODS, OBJECTS
from sprout.world.skills.common import answer_line, assistant, some_tools, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict, final_text

NAME, SHARE = "sorting", 1.8
ASKS = {
    "sort": ("Sort {i}.", "Put in order: {i}.", "Order these: {i}.", "Please sort {i}.", "Sort from small to large: {i}."),
    "largest": ("Which is the largest: {i}?", "What is the largest of {i}?", "Find the largest: {i}.", "Name the largest of {i}."),
    "smallest": ("Which is the smallest: {i}?", "What is the smallest of {i}?", "Find the smallest: {i}.", "Name the smallest of {i}."),
    "compare": ("Which is larger, {a} or {b}?", "Is {a} or {b} the larger number?", "What is more, {a} or {b}?", "Compare {a} and {b}: which is larger?"),
    "words": ("Sort by the alphabet: {i}.", "Put these words in alphabetical order: {i}.", "Alphabetical order, please: {i}."),
}  # fmt: skip


def make(world: World, dice: Dice) -> Problem:
    """Three to six numbers below 1000, or three to five words with different first letters."""
    task = dice.weighted(tuple(ASKS), (3, 2, 2, 2, 2))
    if task == "words":
        pool = dice.pick((ANIMALS, FOODS, OBJECTS))
        items: list[str] = []
        count = dice.integer(3, 5)
        while len(items) < count:
            if (word := dice.pick(pool))[0] not in {w[0] for w in items}:
                items.append(word)
        answer = ", ".join(sorted(items))
    else:
        digits = dice.pick((2, 2, 3))
        numbers = dice.sample(range(10 ** (digits - 1) if digits == 3 else 1, 10**digits), 2 if task == "compare" else dice.integer(3, 6))
        items = [str(n) for n in numbers]
        if task == "sort":
            answer = ", ".join(str(n) for n in sorted(numbers))
        else:
            answer = str(min(numbers) if task == "smallest" else max(numbers))
    question = dice.pick(ASKS[task]).format(i=", ".join(items), a=items[0], b=items[1])
    key = f"sorting:{task}:{','.join(sorted(items))}"
    return Problem(NAME, key, (user(question),), (assistant(f"The answer is {answer}."),), answer, some_tools(dice))


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the answer is; for a sorted list, the index of the first wrong item."""
    got = answer_line(final_text(reply))
    right = got == problem.answer
    pairs = zip(problem.answer.split(", "), [*got.split(", "), *[""] * 9], strict=False)
    wrong = next((i for i, (want, have) in enumerate(pairs) if want != have), None)
    return Verdict(right, "" if right else f"expected {problem.answer!r}", wrong)
