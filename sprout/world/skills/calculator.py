"""The same sums and larger ones with the `calculator` tool."""

from __future__ import annotations

import json

from sprout.common.messages import Message, ToolCall
from sprout.world.dice import Dice
from sprout.world.skills.arithmetic import ASKS, canonical, draw, result_of
from sprout.world.skills.common import answer_line, assistant, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict, final_text

NAME, SHARE = "calculator", 0.8


def make(world: World, dice: Dice) -> Problem:
    """A sum while the calculator is at hand; also up to five digits, and divisions that come out even."""
    kind = dice.pick(("small", "large", "division"))
    if kind == "small":
        a, operation, b = draw(dice)
        answer = result_of(a, operation, b)
    elif kind == "large":
        operation = dice.pick("+-")
        a, b = sorted((dice.integer(1000, 99_999), dice.integer(1000, 99_999)), reverse=True)
        answer = result_of(a, operation, b)
    else:
        b, answer, operation = dice.integer(2, 99), dice.integer(2, 999), "/"
        a = b * answer
    expression = f"{a} {operation} {b}"
    key = canonical(a, operation, b) if operation != "/" else expression
    reply = (
        Message("assistant", "", ToolCall.of("calculator", expression=expression)),
        Message("tool", str(answer)),
        assistant(f"The answer is {answer}."),
    )
    prompt = (user(dice.pick(ASKS).format(e=expression)),)
    return Problem(
        NAME,
        f"arithmetic:{key}",
        prompt,
        reply,
        str(answer),
        ("calculator", "lookup"),
        truth={"expression": expression},
    )


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the calculator was given this expression and its result is the answer."""
    asked = []
    for m in reply:
        if m.call and m.call.name == "calculator":
            try:
                asked.append(str(json.loads(m.call.arguments).get("expression")))
            except (ValueError, AttributeError, RecursionError):
                asked.append("")
    if problem.truth["expression"] not in asked:
        return Verdict(False, f"did not calculate {problem.truth['expression']!r}", 0)
    right = answer_line(final_text(reply)) == problem.answer
    return Verdict(right, "" if right else f"expected {problem.answer}", None if right else 1)
