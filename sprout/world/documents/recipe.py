"""Recipes."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person
from sprout.world.lexicon import DISHES, FOODS, WEEKDAYS
from sprout.world.state import World
from sprout.world.types import Document
from sprout.world.vocabulary import manner_of
from sprout.world.wording import capital

KIND, SHARE = "recipe", 0.7
FIRST = (
    "Wash the {a}.",
    "Cut the {a} into small pieces.",
    "Peel and chop the {a}.",
    "Put the {a} into a pot.",
    "Begin with the {a}.",
)
THEN = (
    "Add {b} and stir {d}.",
    "Stir in the {b} {d}.",
    "Mix with {b}.",
    "Pour the {b} over it {d}.",
    "Fold in the {b} {d}.",
)
HEAT = ("Cook for {m} minutes.", "Bake for {m} minutes.", "Let it rest for {m} minutes.", "Boil {d} for {m} minutes.")
SERVE = ("Serve with {c}.", "Eat it warm with {c}.", "Best on a {w}.", "Keep some for {w}.", "It feeds {k} people.")


def write(world: World, dice: Dice) -> Document:
    """A dish from two or three things; some people are known to like it."""
    dish, (a, b, c) = dice.pick(DISHES), dice.sample(FOODS, 3)
    words = {
        "a": a,
        "b": b,
        "c": c,
        "d": manner_of(dice),
        "m": dice.integer(2, 12) * 5,
        "w": dice.pick(WEEKDAYS),
        "k": dice.integer(2, 9),
    }
    steps = [dice.pick(part).format(**words) for part in (FIRST, THEN, HEAT, SERVE)]
    fan = next((p for p in dice.sample(world.people, len(world.people)) if p.food == dish), None) or pick_person(
        world, dice
    )
    name = dice.pick(
        (
            f"{capital(dish)} with {a}",
            f"How to make {dish}",
            f"{capital(dish)} the old way",
            f"{capital(a)} and {b} {dish}",
        )
    )
    if dice.chance(0.5):
        steps = [f"{i}. {s}" for i, s in enumerate(steps, 1)]
    end = [f"{fan.name} likes {dish}."] if fan.food == dish else []
    needs = f"You need {dice.integer(2, 9)} spoons of {b}, some {a} and {c}."
    return Document(
        KIND, "\n".join([name, needs, *steps, *end]), (f"{fan.id}/food",) if end else (), plan={"dish": dish}
    )
