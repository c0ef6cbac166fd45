"""A day in somebody's diary."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person, scene, tell, woven
from sprout.world.lexicon import EMOTIONS, MONTHS, WEATHER, WEEKDAYS
from sprout.world.state import World
from sprout.world.types import Document

KIND, SHARE = "diary", 1.0


def write(world: World, dice: Dice) -> Document:
    """A date, scenes, and what the writer thinks of somebody of the world."""
    person = pick_person(world, dice)
    told, facts = tell(person, dice, dice.integer(2, 3))
    day = f"{dice.pick(WEEKDAYS)}, {dice.integer(1, 28)} {dice.pick(MONTHS)}"
    feeling, weather = dice.pick(EMOTIONS), dice.pick(WEATHER)
    opening = dice.pick(
        (f"{day}.\n", f"{day}: {weather}.\n", "Dear diary,\n", f"Dear diary, today is {day.split(',')[0]}.\n", f"{day}, late.\n",
         f"{dice.integer(5, 11)} o'clock, {weather} outside.\n", "")
    )  # fmt: skip
    mood = dice.pick(
        (f"The {weather} made me {feeling}.", f"All this {weather}! I am {feeling}.", f"I feel {feeling}.",
         f"What {weather} we had, and how {feeling} I was.", f"I went to bed {feeling}.")
    )  # fmt: skip
    text = opening + woven(dice, told, [scene(dice, "I"), scene(dice), mood])
    return Document(KIND, text, tuple(facts), plan={"feeling": feeling, "weather": weather})
