"""Names built from syllables: endless, pronounceable, and teachable by copying."""

from __future__ import annotations

from sprout.common.hashing import stable_hash
from sprout.world.dice import Dice

ONSETS = (*tuple("b d f g h k l m n p r s t v".split()), "br", "dr", "st", "th")
VOWELS = tuple("a e i o u".split())
ENDS_FIRST = ("n", "l", "ra", "m", "ric", "la", "na", "s", "do", "mi")
ENDS_FAMILY = ("ner", "ton", "well", "ford", "man", "by", "rick", "der", "lin", "sen")
ENDS_PLACE = ("mouth", "stead", "wick", "bury", "dale", "ham", "field", "port", "ley", "minster")
ENDS_THING = ("scope", "graph", "loom", "phone", "meter", "wheel", "press", "lift", "stove", "pump")


def syllables(dice: Dice, ends: tuple[str, ...]) -> str:
    """Two syllables and an ending, capitalised: 'Tovaner'."""
    while True:
        name = dice.pick(ONSETS) + dice.pick(VOWELS) + dice.pick(ONSETS) + dice.pick(VOWELS) + dice.pick(ends)
        if not stammers(name):
            return name.capitalize()


def stammers(*names: str) -> bool:
    """Whether two letters come twice, as in 'Papara': who writes such a name down piece by piece loses the place."""
    pairs = [name.lower()[i : i + 2] for name in names for i in range(len(name) - 1)]
    return len(set(pairs)) < len(pairs)


def family_of(name: str) -> int:
    """Every name belongs to one of two families, so that two worlds can have disjoint names."""
    return stable_hash("name", name) % 2


def make_name(dice: Dice, ends: tuple[str, ...], family: int = 0) -> str:
    """A name with the given endings from one of the two families."""
    while family_of(name := syllables(dice, ends)) != family:
        pass
    return name


def person_name(dice: Dice, family: int = 0) -> tuple[str, str]:
    """First name and family name."""
    first = make_name(dice, ENDS_FIRST, family)
    while stammers(first, last := make_name(dice, ENDS_FAMILY, family)):
        pass
    return first, last
