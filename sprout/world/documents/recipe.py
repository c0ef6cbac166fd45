"""Recipes."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import DISHES, KIN, WEEKDAYS
from sprout.world.state import World
from sprout.world.types import Document
from sprout.world.vocabulary import TASTES
from sprout.world.wording import capital, say

KIND, SHARE = "recipe", 0.7
CHOPPED = ("carrots", "onions", "potatoes", "turnips", "cabbage", "spinach", "mushrooms", "apples", "pears", "plums", "cherries",
           "grapes", "berries", "figs", "dates", "ham", "bacon", "fish", "sausage")  # fmt: skip
SPOONED = ("butter", "honey", "rice", "beans", "peas", "lentils", "nuts", "almonds", "walnuts", "jam", "pepper", "garlic",
           "milk", "cider", "juice", "cheese", "oats", "flour", "sugar", "salt")  # fmt: skip
BESIDE = ("bread", "butter", "tea", "coffee", "milk", "cider", "juice", "cheese", "salad", "nuts", "jam", "lettuce", "biscuits")
NAMES = ("{D} with {a}", "How to make {d}", "{D} the old way", "{D} with {a} and {b}", "{D} for {k}", "{Q} {d}", "{D} in {m} minutes",
         "My aunt's {d}", "A {w} {d}", "{D}, {q} and {t}")  # fmt: skip
NEEDS = ("You need {i} spoons of {b} and some {a}.", "For it take {a}, and {i} spoons of {b}.", "{A}, {b} ({i} spoons), and {c} beside it.",
         "What goes in: {a} and {b}.", "Buy {a}; the {b} you may have at home.", "Some {a}, {i} spoons of {b}, {k} plates.")  # fmt: skip
FIRST = ("Wash the {a}.", "Cut the {a} into small pieces.", "Peel and chop the {a}.", "Put the {a} into a {p}.", "Begin with the {a}.",
         "Clean the {a} {h}.", "Take {k} handfuls of {a}.")  # fmt: skip
THEN = ("Add {b} and stir {h}.", "Stir in the {b} {h}.", "Mix with {b}.", "Put {b} over it {h}.", "Work in the {b} {h}.",
        "Now add the {b}, {i} spoons.", "Do not forget the {b}.")  # fmt: skip
HEAT = ("Cook for {m} minutes.", "Bake for {m} minutes.", "Let it rest for {m} minutes.", "Boil {h} for {m} minutes.",
        "Heat until it smells {q}.", "Keep it warm for {m} minutes.", "Leave it on the fire until {o} o'clock.")  # fmt: skip
SERVE = ("Serve with {c}.", "Eat it warm with {c}.", "Best on a {w}.", "Keep some for {w}.", "It feeds {k} people.",
         "It should taste {q} and {t}.", "Even my {r} likes it.")  # fmt: skip
HOW = ("slowly", "quickly", "gently", "carefully", "well", "softly", "calmly", "patiently", "for a while", "with a spoon")


def write(world: World, dice: Dice) -> Document:
    """A dish from two or three things; somebody is known to like it."""
    dish = dice.pick(DISHES)
    a, b, c = (dice.pick([x for x in foods if x != dish]) for foods in (CHOPPED, SPOONED, BESIDE))
    q, t = dice.sample(sorted(TASTES), 2)
    words = {
        "a": a, "A": capital(a), "b": b, "c": c, "d": dish, "D": capital(dish), "q": q, "Q": capital(q), "t": t, "h": dice.pick(HOW),
        "i": dice.integer(2, 9), "k": dice.integer(2, 9), "m": dice.integer(2, 12) * 5, "o": dice.integer(6, 12),
        "p": dice.pick(("pot", "pan", "bowl", "jar", "kettle")), "r": dice.pick(KIN), "w": dice.pick(WEEKDAYS),
    }  # fmt: skip
    name, needs, *steps = (dice.pick(part).format(**words) for part in (NAMES, NEEDS, FIRST, THEN, HEAT, SERVE))
    if dice.chance(0.5):
        steps = [f"{i}. {s}" for i, s in enumerate(steps, 1)]
    fans = [p for p in world.people if p.food == dish]
    if not fans:
        return Document(KIND, "\n".join([name, needs, *steps]), plan={"dish": dish})
    fan = dice.pick(fans)
    end = say(fan.name, "food", dish, dice, fan.his)
    return Document(KIND, "\n".join([name, needs, *steps, end]), (f"{fan.id}/food",), plan={"dish": dish})
