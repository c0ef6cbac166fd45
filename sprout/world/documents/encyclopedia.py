"""Encyclopedia entries about people, places, shops and inventions."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person, tell
from sprout.world.state import Entity, World
from sprout.world.types import Document

KIND, SHARE = "encyclopedia", 3.0


def write(world: World, dice: Dice) -> Document:
    """Four to seven facts of one entity, sometimes under its name as a heading."""
    group = dice.weighted(("people", "places", "shops", "inventions"), (6, 2, 2, 2))
    entity: Entity = pick_person(world, dice) if group == "people" else dice.pick(getattr(world, group))
    sentences, facts = tell(entity, dice, dice.integer(4, 7), frames=dice.chance(0.3))
    heading = f"{entity.name}\n\n" if dice.chance(0.4) else ""
    return Document(KIND, heading + " ".join(sentences), tuple(facts), plan={"about": group})
