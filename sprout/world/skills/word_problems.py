"""Word problems of one to three steps, some with a clause that doesn't matter (arXiv 2410.05229)."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.names import ENDS_FIRST, make_name
from sprout.world.skills.common import assistant, stepwise, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict

NAME, SHARE = "word_problems", 2.4
THINGS = ("apples", "plums", "coins", "eggs", "books", "shells", "stones", "nails", "candles", "cups", "buttons", "feathers",
          "loaves", "fish", "cherries", "ribbons", "seeds", "nuts", "keys", "stamps")  # fmt: skip
# (first sentence, what it makes the number): {n} is the person, {t} the things, {a} a number.
STARTS = ("{n} has {a} {t}.", "{n} owns {a} {t}.", "There are {a} {t} in the basket of {n}.", "{n} starts with {a} {t}.",
          "In the morning {n} has {a} {t}.", "{n} counts {a} {t}.")  # fmt: skip
GAINS = ("{n} finds {a} more.", "{n} buys {a} more.", "A friend gives {n} {a} more.", "{n} gets {a} more.", "Then {n} picks up {a} more.",
         "The next day {n} receives {a} more.", "{n} wins {a} more.")  # fmt: skip
LOSSES = ("{n} loses {a} of them.", "{n} sells {a} of them.", "{n} gives {a} of them away.", "Then {n} drops {a} of them.",
          "{n} lends {a} of them to a friend.", "{a} of them are stolen.", "{n} throws {a} of them away.")  # fmt: skip
TIMES = (
    "Then {n} gets {a} times as many.",
    "By evening {n} has {a} times as many.",
    "A year later {n} has {a} times as many.",
)
NOISE = (
    "{n} is {a} years old.",
    "The road is {a} miles long.",
    "It is {a} o'clock.",
    "{n} has {a} cousins.",
    "The house has {a} windows.",
)
ENDS = ("How many {t} does {n} have now?", "How many {t} are left?", "How many {t} does {n} have in the end?",
        "How many {t} are there now?", "What is the number of {t} now?")  # fmt: skip


def make(world: World, dice: Dice) -> Problem:
    """Numbers up to 99, changes up to 9; each step adds, takes away or multiplies, and is written as one
    line ('17 x 4 = 40 + 28 = 68')."""
    name, things = make_name(dice, ENDS_FIRST), dice.pick(THINGS)
    count = dice.integer(1, 3)
    now = dice.integer(5, 50)
    sentences = [dice.pick(STARTS).format(n=name, t=things, a=now)]
    steps, shape = [], [str(now)]
    for _ in range(count):
        operation = dice.weighted("+-x", (4, 4, 2))
        if operation == "x" and now > 24:
            operation = "-"
        if operation == "-" and now < 4:
            operation = "+"
        if operation == "+":
            a, text = dice.integer(2, 9), dice.pick(GAINS)
            after = now + a
        elif operation == "-":
            a, text = dice.integer(1, min(9, now - 1)), dice.pick(LOSSES)
            after = now - a
        else:
            a, text = dice.integer(2, 4), dice.pick(TIMES)
            after = now * a
        tens, ones = now // 10 * 10, now % 10
        parts = f"{tens * a} + {ones * a} = " if operation == "x" and tens and ones else ""
        steps.append(f"{now} {operation} {a} = {parts}{after}")
        shape.append(f"{operation}{a}")
        sentences.append(text.format(n=name, t=things, a=a))
        now = after
    if dice.chance(0.25):
        noise = dice.pick(NOISE).format(n=name, a=dice.integer(2, 12))
        sentences.insert(dice.integer(1, len(sentences)), noise)
    sentences.append(dice.pick(ENDS).format(n=name, t=things))
    steps.append(f"The answer is {now}.")
    return Problem(
        NAME, f"word_problems:{''.join(shape)}", (user(" ".join(sentences)),), (assistant("\n".join(steps)),), str(now),
        steps=tuple(steps), difficulty=count,
    )  # fmt: skip


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the answer is; tells the first wrong step."""
    return stepwise(problem, reply)
