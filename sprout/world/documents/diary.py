"""A day in somebody's diary."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person, scene, shuffled, tell
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
    opening = dice.pick((f"{day}.\n", f"{day}: {weather}.\n", f"Dear diary, it is {day}.\n", ""))
    lines = [scene(dice, "I"), scene(dice), f"The {weather} made me {feeling}.", *told]
    text = opening + shuffled(dice, lines)
    return Document(KIND, text, tuple(facts), plan={"feeling": feeling, "weather": weather})
