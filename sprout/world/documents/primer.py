"""Pages of a primer: what is said is said again, what belongs together is found again, and words are spelled.

The densest practice in copying there is: most of a page can be foretold from the page itself, so that attention to what
was read switches on early (in-context copying comes abruptly, arXiv 2209.11895).
"""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import (
    ADJECTIVES,
    ANIMALS,
    COLOURS,
    DISHES,
    FOODS,
    INSTRUMENTS,
    OBJECTS,
    PETS,
    PLANTS,
    ROOMS,
    SHORT_WORDS,
    TRADES,
)
from sprout.world.names import ENDS_FIRST, make_name, person_name
from sprout.world.skills.arithmetic import PLACES
from sprout.world.skills.format import SHORT
from sprout.world.state import World
from sprout.world.types import Document
from sprout.world.wording import answer, ask, say

KIND, SHARE = "primer", 4.5
LISTS = (ANIMALS, FOODS, OBJECTS, ADJECTIVES, SHORT_WORDS)
KINDS = {"animal": ANIMALS, "food": FOODS, "object": OBJECTS, "quality": ADJECTIVES, "trade": TRADES, "colour": COLOURS,
         "instrument": INSTRUMENTS, "plant": PLANTS, "room": ROOMS}  # fmt: skip
SHAPES = {"after": 4, "pairs": 4, "questions": 5, "spell": 2, "places": 2, "sums": 3, "alphabet": 0.7, "kinds": 1.5,
          "capitals": 1.5}  # fmt: skip
RELATIONS = {"trade": TRADES, "food": DISHES, "pet": PETS, "instrument": INSTRUMENTS, "colour": COLOURS}
VALUES = (PETS, DISHES, COLOURS, INSTRUMENTS, TRADES)


def items(dice: Dice, count: int) -> list[str]:
    """Different words, names, numbers or times."""
    kind = dice.integer(0, 5)
    if kind == 0:
        return [make_name(dice, ENDS_FIRST) for _ in range(count)]
    if kind == 1:
        return [" ".join(person_name(dice)) for _ in range(count)]
    if kind == 2:
        return [str(dice.integer(1, dice.pick((99, 999, 9999, 999_999)))) for _ in range(count)]
    if kind == 3:
        return [f"{dice.integer(0, 23):02d}:{dice.integer(0, 11) * 5:02d}" for _ in range(count)]
    return dice.sample(dice.pick(LISTS), count)


def small_sum(dice: Dice) -> str:
    """A number below 100 and one digit added, taken away or multiplied, or two numbers of minutes."""
    operation, a, b = dice.pick("+-x"), dice.integer(1, dice.pick((19, 99))), dice.integer(1, 9)
    if operation == "x":
        a = dice.integer(1, 9)
        return f"{a} x {b} = {a * b}"
    if dice.chance(0.2):
        a, b = sorted((dice.integer(0, 11) * 5, dice.integer(0, 11) * 5), reverse=True)
        return f"{a:02d} + {b:02d} = {a + b:02d}" if operation == "+" else f"{a:02d} - {b:02d} = {a - b:02d}"
    return f"{a} + {b} = {a + b}" if operation == "+" else f"{max(a, b)} - {min(a, b)} = {max(a, b) - min(a, b)}"


def write(world: World, dice: Dice) -> Document:
    """Saying after, finding pairs again, questions about a few people, naming the places of digits, spelling, small sums, the alphabet, what
    kind a thing is, or capitals."""
    shape = dice.weighted(tuple(SHAPES), tuple(SHAPES.values()))
    lines: list[str] = []
    if shape == "after":
        joint = dice.pick((", ", " ", "; ", " and ", "\n"))
        one, two = dice.pick(
            (
                ("Say: ", "Again: "),
                ("First: ", "Then: "),
                ("Here: ", "There: "),
                ("Read: ", "Write: "),
                ("Call: ", "Echo: "),
                ("", ""),
            )
        )
        for _ in range(dice.integer(1, 3)):
            row = joint.join(items(dice, dice.integer(2, 6)))
            lines += [one + row, two + row]
    elif shape == "pairs":
        count = dice.integer(2, 6)
        names, values = items(dice, count), dice.sample(dice.pick(VALUES), count)
        mark, mark_again = dice.pick(((": ", ": "), (" - ", " - "), (" has ", " has "), (": ", "? "), (" = ", " = ")))
        pairs = list(zip(names, values, strict=True))
        lines.append(", ".join(f"{n}{mark}{v}" for n, v in pairs) + ".")
        for _ in range(dice.integer(1, 2)):
            dice.shuffle(pairs)
            lines.append(", ".join(f"{n}{mark_again}{v}" for n, v in pairs) + ".")
    elif shape == "questions":
        relation, count = dice.pick(tuple(RELATIONS)), dice.integer(2, 4)
        told = [(make_name(dice, ENDS_FIRST), value) for value in dice.sample(RELATIONS[relation], count)]
        lines.append(" ".join(say(name, relation, value, dice, frames=False) for name, value in told))
        dice.shuffle(told)
        lines += [f"{ask(name, relation, dice)} {answer(name, relation, value)}" for name, value in told]
    elif shape == "places":
        for _ in range(dice.integer(2, 3)):
            number = str(dice.integer(100, 9999))
            lines.append(f"{number}: " + ", ".join(f"{p} {d}" for p, d in zip(PLACES, reversed(number), strict=False)))
    elif shape == "spell":
        count = dice.chance(0.5)
        for word in dice.sample(SHORT_WORDS, dice.integer(3, 7)):
            lines.append(
                f"{word}: " + (", ".join(f"{i} {c}" for i, c in enumerate(word, 1)) if count else " ".join(word))
            )
    elif shape == "alphabet":
        letters = dice.sample("abcdefghijklmnopqrstuvwxyz", dice.integer(4, 9))
        lines = [f"{ord(c) - 96:02d} {c}" for c in sorted(letters)]
        if dice.chance(0.5):  # words and the number of their first letter, in order
            words = sorted({w[0]: w for w in dice.sample(dice.pick(LISTS), 5)}.values())
            lines = [f"{ord(w[0]) - 96:02d} {w}" for w in words]
    elif shape == "sums":
        lines = [small_sum(dice) for _ in range(dice.integer(5, 10))]
    elif shape == "kinds":
        for _ in range(dice.integer(3, 7)):
            kind = dice.pick(tuple(KINDS))
            lines.append(f"{dice.pick(KINDS[kind])}: {kind}")
    else:
        words = dice.sample(SHORT, dice.integer(2, 6))
        lines = [" ".join(words), " ".join(words).upper()]
    return Document(KIND, "\n".join(lines), plan={"shape": shape})
