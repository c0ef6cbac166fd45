"""Dates and times: weekdays, months, clock times."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import MONTHS, WEEKDAYS
from sprout.world.skills.common import assistant, some_tools, stepwise, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict

NAME, SHARE = "dates", 1.8
ASKS = {
    "day_after": ("Which day comes {k} days after {d}?", "It is {d}. What day is it in {k} days?", "Today is {d}. Which day is it {k} days later?"),
    "day_before": ("Which day was {k} days before {d}?", "It is {d}. What day was it {k} days ago?", "Today is {d}. Which day was it {k} days earlier?"),
    "month_after": ("Which month comes {k} months after {d}?", "It is {d}. What month is it in {k} months?"),
    "clock": ("It is {d}. What time is it in {k} minutes?", "What time is it {k} minutes after {d}?", "A walk starts at {d} and takes {k} minutes. When does it end?"),
    "between": ("How many minutes are between {d} and {e}?", "A lesson lasts from {d} to {e}. How many minutes is that?", "How long is it from {d} to {e}, in minutes?"),
    "earlier": ("Which is earlier, {d} or {e}?", "What comes first, {d} or {e}?", "Is {d} or {e} earlier?"),
}  # fmt: skip


def clock(minutes: int) -> str:
    """Minutes since midnight as '09:05'."""
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def make(world: World, dice: Dice) -> Problem:
    """Steps count day by day or month by month; minutes of clock times have two digits, and go by the full hour where one
    is passed."""
    task = dice.weighted(tuple(ASKS), (0.5, 0.5, 0.5, 2, 1.7, 1.6))  # the first three have few different problems
    if task.startswith(("day", "month")):
        names = MONTHS if task == "month_after" else WEEKDAYS
        start, k = dice.integer(0, len(names) - 1), dice.integer(2, 8)
        sign = -1 if task == "day_before" else 1
        walk = [names[(start + sign * i) % len(names)] for i in range(k + 1)]
        steps, answer, d, e = [", ".join(f"{i} {x}" for i, x in enumerate(walk))], walk[-1], walk[0], ""
    elif task == "clock":
        start, k = dice.integer(0, 22 * 12) * 5, dice.integer(1, 11) * 5
        d, e, answer = clock(start), "", clock(start + k)
        hour, minute, total = start // 60, start % 60, start % 60 + k
        steps = [f"{minute:02d} + {k:02d} = {total:02d}"]
        if total >= 60:
            steps[0] += f", {total} - 60 = {total - 60:02d}, {hour:02d} + 1 = {hour + 1:02d}"
    elif task == "between":
        start, k = dice.integer(0, 20 * 12) * 5, dice.integer(1, 11) * 5
        d, e, answer = clock(start), clock(start + k), str(k)
        begins, ends = start % 60, (start + k) % 60
        to_hour = f"60 - {begins:02d} = {60 - begins:02d}, {60 - begins:02d} + {ends:02d} = {k:02d}"
        steps = [f"{ends:02d} - {begins:02d} = {k:02d}" if ends > begins else to_hour]
    else:
        one, two = dice.sample(range(24 * 12), 2)
        d, e, answer, steps, k = clock(one * 5), clock(two * 5), clock(min(one, two) * 5), [], 0
    lines = (*steps, f"The answer is {answer}.")
    key = f"dates:{task}:" + (",".join(sorted((d, e))) if task == "earlier" else f"{d}:{k}")
    question = dice.pick(ASKS[task]).format(d=d, e=e, k=k)
    return Problem(NAME, key, (user(question),), (assistant("\n".join(lines)),), answer, some_tools(dice), steps=lines)


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the answer is; tells the first wrong step."""
    return stepwise(problem, reply)
