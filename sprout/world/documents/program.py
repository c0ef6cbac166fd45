"""Small programs and what they print, truly computed."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import ANIMALS, FOODS, OBJECTS
from sprout.world.state import World
from sprout.world.types import Document

KIND, SHARE = "program", 0.7


def write(world: World, dice: Dice) -> Document:
    """One of twelve shapes of program over random words and numbers, and its output."""
    words = dice.sample(dice.pick((ANIMALS, FOODS, OBJECTS)), dice.integer(2, 4))
    numbers = [dice.integer(1, 60) for _ in range(dice.integer(2, 4))]
    a, b = dice.integer(2, 40), dice.integer(2, 9)
    x, f = dice.pick(("x", "n", "total", "count", "items", "row")), dice.pick(("f", "work", "change", "step"))
    w = words[0]
    programs: tuple[tuple[str, list[object]], ...] = (
        (f"{x} = {numbers}\nprint(sum({x}))", [sum(numbers)]),
        (f"{x} = {words}\nfor word in {x}:\n    print(word, len(word))", [f"{word} {len(word)}" for word in words]),
        (f"{x} = {a}\nfor i in range({b}):\n    {x} = {x} + i\nprint({x})", [a + b * (b - 1) // 2]),
        (f"print(sorted({numbers}))", [sorted(numbers)]),
        (f"{x} = '{w}'\nprint({x}[::-1].upper())", [w[::-1].upper()]),
        (f"print(max({numbers}), min({numbers}))", [f"{max(numbers)} {min(numbers)}"]),
        (f"def {f}({x}):\n    return {x} * {b}\n\nprint({f}({a}))", [a * b]),
        (f"{x} = {a}\nwhile {x} > {b}:\n    {x} = {x} - {b}\nprint({x})", [(a - 1) % b + 1 if a > b else a]),
        (f"{x} = {a}\nif {x} > 20:\n    print('{w}')\nelse:\n    print('{words[1]}')", [w if a > 20 else words[1]]),
        (f"print(', '.join({words}))", [", ".join(words)]),
        (f"price = {{'{w}': {a}, '{words[1]}': {b}}}\nprint(price['{w}'])", [a]),
        (f"print([{x} * {x} for {x} in range({b})])", [[i * i for i in range(b)]]),
    )
    shape = dice.integer(0, len(programs) - 1)
    code, output = programs[shape]
    head = dice.pick(("", "Program:\n", f"# {words[-1]}\n", "What does this print?\n", f"Program {a}:\n", "Run this:\n"))
    mark = dice.pick(("Output:\n", "It prints:\n", "# ->\n"))
    return Document(KIND, f"{head}{code}\n{mark}" + "\n".join(map(str, output)), plan={"shape": shape})
