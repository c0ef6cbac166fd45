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
    SHORT_WORDS,
    TRADES,
)
from sprout.world.names import ENDS_FIRST, make_name, person_name
from sprout.world.skills.arithmetic import PLACES
from sprout.world.state import World
from sprout.world.types import Document

KIND, SHARE = "primer", 3.0
LISTS = (ANIMALS, FOODS, OBJECTS, ADJECTIVES, SHORT_WORDS)
VALUES = (PETS, DISHES, COLOURS, INSTRUMENTS, TRADES)


def items(dice: Dice, count: int) -> list[str]:
    """Different words, names or numbers."""
    kind = dice.integer(0, 4)
    if kind == 0:
        return [make_name(dice, ENDS_FIRST) for _ in range(count)]
    if kind == 1:
        return [" ".join(person_name(dice)) for _ in range(count)]
    if kind == 2:
        return [str(dice.integer(1, dice.pick((99, 999, 9999)))) for _ in range(count)]
    return dice.sample(dice.pick(LISTS), count)


def write(world: World, dice: Dice) -> Document:
    """Saying after, finding pairs again, naming the places of digits, or spelling."""
    shape = dice.weighted(("after", "pairs", "spell", "places"), (3, 3, 2, 2))
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
        mark, ask = dice.pick(((": ", ": "), (" - ", " - "), (" has ", " has "), (": ", "? "), (" = ", " = ")))
        pairs = list(zip(names, values, strict=True))
        lines.append(", ".join(f"{n}{mark}{v}" for n, v in pairs) + ".")
        for _ in range(dice.integer(1, 2)):
            dice.shuffle(pairs)
            lines.append(", ".join(f"{n}{ask}{v}" for n, v in pairs) + ".")
    elif shape == "places":
        for _ in range(dice.integer(2, 3)):
            number = str(dice.integer(100, 9999))
            lines.append(f"{number}: " + ", ".join(f"{p} {d}" for p, d in zip(PLACES, reversed(number), strict=False)))
    else:
        for word in dice.sample(SHORT_WORDS, dice.integer(3, 7)):
            lines.append(f"{word}: {' '.join(word)}")
    return Document(KIND, "\n".join(lines), plan={"shape": shape})
