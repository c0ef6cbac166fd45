"""Small programs and what they print, truly computed."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import ANIMALS, FOODS, OBJECTS
from sprout.world.state import World
from sprout.world.types import Document

KIND, SHARE = "program", 0.7


def write(world: World, dice: Dice) -> Document:
    """One of five shapes of program over random words and numbers, and its output."""
    words = dice.sample(dice.pick((ANIMALS, FOODS, OBJECTS)), dice.integer(2, 4))
    numbers = [dice.integer(1, 60) for _ in range(dice.integer(2, 4))]
    a, b = dice.integer(2, 40), dice.integer(2, 9)
    var = dice.pick(("x", "n", "total", "count", "items", "row"))
    shape = dice.integer(0, 5)
    output: list[object]
    if shape == 0:
        code, output = f"{var} = {numbers}\nprint(sum({var}))", [sum(numbers)]
    elif shape == 1:
        code, output = (
            f"{var} = {words}\nfor word in {var}:\n    print(word, len(word))",
            [f"{w} {len(w)}" for w in words],
        )
    elif shape == 2:
        code, output = f"{var} = {a}\nfor i in range({b}):\n    {var} = {var} + i\nprint({var})", [a + b * (b - 1) // 2]
    elif shape == 3:
        code, output = f"print(sorted({numbers}))", [sorted(numbers)]
    elif shape == 4:
        code, output = f"{var} = '{words[0]}'\nprint({var}[::-1].upper())", [words[0][::-1].upper()]
    else:
        code, output = f"print(max({numbers}), min({numbers}))", [f"{max(numbers)} {min(numbers)}"]
    head = dice.pick(("", "Program:\n", f"# {words[-1]}\n", "What does this print?\n"))
    return Document(KIND, f"{head}{code}\nOutput:\n" + "\n".join(map(str, output)), plan={"shape": shape})
