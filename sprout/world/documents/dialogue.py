"""Dialogues: people of the world ask each other about others."""

from __future__ import annotations

from sprout.common.hashing import split_of
from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person, scene
from sprout.world.state import RELATIONS, Entity, World, kind_of, value_of
from sprout.world.types import Document
from sprout.world.wording import answer, ask, say

KIND, SHARE = "dialogue", 2.0
THANKS = ("Thank you.", "Good to know.", "I had forgotten.", "Oh, I see.", "Just as I thought.", "Are you sure?")


def write(world: World, dice: Dice) -> Document:
    """Two people talk about a third or a place: two to three questions, none that a test of recall will ask."""
    candidates: list[Entity] = [
        pick_person(world, dice), dice.pick(world.places), dice.pick(world.shops), dice.pick(world.inventions)
    ]  # fmt: skip
    about = dice.weighted(candidates, (4, 1, 1, 1))
    relations = [r for r in RELATIONS[kind_of(about)] if split_of(f"recall:{about.id}/{r}") == "train"]
    named = {about.name, *(value_of(about, r) for r in relations)}  # who is spoken of is not there
    one, two = dice.sample([p for p in world.people if p.name not in named], 2)
    lines, facts = [], []
    for relation in dice.sample(relations, min(len(relations), dice.integer(2, 3))):
        value = value_of(about, relation)
        lines.append(f"{one.first}: {ask(about.name, relation, dice)}")
        said = answer(about.name, relation, value) if dice.chance(0.5) else say(about.name, relation, value, dice)
        lines.append(f"{two.first}: {said}")
        facts.append(f"{about.id}/{relation}")
    lines.append(f"{one.first}: {dice.pick(THANKS)} {scene(dice)}")
    return Document(KIND, "\n".join(lines), tuple(facts), skills=("recall",), plan={"about": kind_of(about)})
