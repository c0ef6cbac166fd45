"""Schedules and opening hours."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person, tell
from sprout.world.lexicon import PLACES_NEAR, WEEKDAYS
from sprout.world.state import World
from sprout.world.types import Document
from sprout.world.vocabulary import deed_now, thing
from sprout.world.wording import capital

KIND, SHARE = "schedule", 0.6


def write(world: World, dice: Dice) -> Document:
    """Somebody's day hour by hour, or a shop's week."""
    if dice.chance(0.5):
        shop = dice.pick(world.shops)
        lines = [
            f"{d}: " + ("closed" if d == shop.closed_on else f"{shop.opens}:00 to {shop.closes}:00") for d in WEEKDAYS
        ]
        told, facts = tell(shop, dice, 3, frames=False)
        head = dice.pick((f"Hours of {shop.name}", f"When is {shop.name} open?", capital(shop.name)))
        return Document(
            KIND,
            "\n".join([head, *lines, " ".join(told)]),
            (*facts, f"{shop.id}/opens", f"{shop.id}/closed_on"),
            plan={"of": "shop"},
        )
    person, hour = pick_person(world, dice), dice.integer(5, 9)
    lines = []
    for _ in range(dice.integer(3, 6)):
        verb = deed_now(dice)
        lines.append(
            f"{hour:02d}:{dice.integer(0, 3) * 15:02d} {verb} the {thing(dice)} at the {dice.pick(PLACES_NEAR)}"
        )
        hour += dice.integer(1, 3)
    told, facts = tell(person, dice, 2, frames=False)
    return Document(
        KIND,
        "\n".join([f"{dice.pick(WEEKDAYS)}, {person.name}", *lines, " ".join(told)]),
        tuple(facts),
        plan={"of": "person"},
    )
