"""Saying no politely to what a text model can't do."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import (
    ANIMALS,
    CLOTHES,
    FOODS,
    GOODS,
    INSTRUMENTS,
    KIN,
    OBJECTS,
    PLACES_NEAR,
    PLANTS,
    ROOMS,
    WEEKDAYS,
)
from sprout.world.skills.common import assistant, mentioned, no_call, some_tools, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict, final_text

NAME, SHARE = "refusal", 0.7
