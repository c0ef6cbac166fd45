"""Textbook pages: worked exercises with their steps."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.skills import sample
from sprout.world.state import World
from sprout.world.types import Document
from sprout.world.vocabulary import quality, thing
from sprout.world.wording import capital

KIND, SHARE = "textbook", 1.0
TOPICS = ("arithmetic", "dates", "sorting", "spelling", "word_problems")


def write(world: World, dice: Dice) -> Document:
    """Two to three worked examples of one topic under a heading."""
    topic = dice.pick(TOPICS)
    heading = dice.pick(
        (
            f"Lesson {dice.integer(1, 40)}",
            f"{capital(quality(dice))} exercises",
            f"Page {dice.integer(1, 300)}",
            f"The {thing(dice)} on page {dice.integer(1, 300)}",
        )
    )
    parts = []
    for i in range(1, dice.integer(2, 3) + 1):
        problem = sample(topic, world, dice, "train")
        parts.append(f"{i}) {problem.prompt[-1].content}\n{problem.reply[-1].content}")
    return Document(KIND, heading + "\n" + "\n".join(parts), skills=(topic,), plan={"topic": topic})
