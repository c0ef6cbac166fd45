"""A small universe we know everything about. Read `types.py` (what it gives), `state.py` (what is true), `wording.py`
(how it is said), then a skill and a document kind; all of a sort are alike."""

from sprout.world.dice import Dice
from sprout.world.state import World, WorldConfig, build_world, fresh_person
from sprout.world.types import Document, Problem, Reply, Verdict, final_text

__all__ = [
    "Dice",
    "Document",
    "Problem",
    "Reply",
    "Verdict",
    "World",
    "WorldConfig",
    "build_world",
    "final_text",
    "fresh_person",
]
