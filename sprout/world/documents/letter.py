"""Letters between friends."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person, scene, tell, woven
from sprout.world.state import World
from sprout.world.types import Document

KIND, SHARE = "letter", 1.0
CLOSINGS = (
    "Yours, {n}",
    "Your friend {n}",
    "With love, {n}",
    "Come and visit soon. {n}",
    "Write back! {n}",
    "Until then, {n}",
)


def write(world: World, dice: Dice) -> Document:
    """Somebody writes to the friend about a third person and the day."""
    writer = pick_person(world, dice)
    while (third := pick_person(world, dice)).name in (writer.name, writer.friend):
        pass
    told, facts = tell(third, dice, dice.integer(2, 4))
    greeting = dice.pick(("Dear", "My dear", "Dearest", "Hello")) + f" {writer.friend},\n"
    body = woven(dice, told, [scene(dice, "I"), scene(dice)])
    text = f"{greeting}{body}\n{dice.pick(CLOSINGS).format(n=writer.name)}"
    return Document(KIND, text, (*facts, f"{writer.id}/friend"), plan={"writer": writer.id, "about": third.id})
