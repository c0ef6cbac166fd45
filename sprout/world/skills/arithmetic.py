"""Addition and subtraction to four digits and small multiplication, with written steps."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, stepwise, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict

NAME, SHARE = "arithmetic", 2.5
PLACES = ("ones", "tens", "hundreds", "thousands")
ASKS = ("What is {e}?", "{e}", "{e} = ?", "Work out {e}.", "Please work out {e}.", "Calculate {e}.", "How much is {e}?",
        "Can you tell me {e}?", "I need {e}.", "Solve {e}.", "What do you get for {e}?", "Do the sum {e}.", "Tell me what {e} is.",
        "{e}, please.", "Find {e}.", "Give me {e}.")  # fmt: skip


def steps_of(a: int, operation: str, b: int) -> tuple[str, ...]:
    """The written steps, from the ones upwards. Each has the digits, what was carried in, the digit to write, what is
    carried on, and the digits written so far: 'tens: 8 + 9 + 0 = 7 carry 1, 75'. The last has them all."""
    steps, carry, written = [], 0, ""
    width = len(str(max(a, b)))
    for i in range(width):
        x, y = a // 10**i % 10, b // 10**i % 10
        if operation == "+":
            total = x + y + carry
            step, carry = f"{x} + {y} + {carry} = {total % 10} carry {total // 10}", total // 10
        elif operation == "-":
            total = x - y - carry
            step, carry = f"{x} - {y} - {carry} = {total % 10} borrow {int(total < 0)}", int(total < 0)
        else:
            total = x * b + carry
            step = f"{x} x {b} = {x * b}, {x * b} + {carry} = {total}, "
            step += f"{total % 10} carry {total // 10}"
            carry = total // 10
        written = f"{total % 10}{written}"
        if i == width - 1 and operation != "-" and carry:
            written = f"{carry}{written}"
        steps.append(f"{PLACES[i]}: {step}, {written}")
    return tuple(steps)


def result_of(a: int, operation: str, b: int) -> int:
    """What a operation b is."""
    return a + b if operation == "+" else a - b if operation == "-" else a * b


def draw(dice: Dice) -> tuple[int, str, int]:
    """A problem: operands of 1 to 4 digits, no negative result; a factor of one digit."""
    operation = dice.weighted("+-x", (4, 4, 3))
    if operation == "x":
        size = dice.integer(1, 3)
        return dice.integer(10 ** (size - 1), 10**size - 1), "x", dice.integer(2, 9)
    digits = [dice.weighted((1, 2, 3, 4), (1, 2, 3, 4)) for _ in range(2)]
    a, b = (dice.integer(10 ** (d - 1), 10**d - 1) for d in digits)
    return (max(a, b), "-", min(a, b)) if operation == "-" else (a, "+", b)


def canonical(a: int, operation: str, b: int) -> str:
    """The same for a + b and b + a."""
    return f"{a}{operation}{b}" if operation == "-" else f"{min(a, b)}{operation}{max(a, b)}"


def make(world: World, dice: Dice) -> Problem:
    """A sum without tools, and its steps."""
    a, operation, b = draw(dice)
    question = dice.pick(ASKS).format(e=f"{a} {operation} {b}")
    answer = str(result_of(a, operation, b))
    steps = (*steps_of(a, operation, b), f"The answer is {answer}.")
    return Problem(
        NAME, f"arithmetic:{canonical(a, operation, b)}", (user(question),), (assistant("\n".join(steps)),), answer,
        steps=steps, difficulty=len(str(max(a, b))),
    )  # fmt: skip


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the answer is; tells the first wrong step."""
    return stepwise(problem, reply)
