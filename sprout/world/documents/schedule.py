"""Schedules and opening hours."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person, tell
from sprout.world.lexicon import PLACES_NEAR, WEEKDAYS
from sprout.world.state import Shop, World
from sprout.world.types import Document
from sprout.world.vocabulary import task
from sprout.world.wording import capital

KIND, SHARE = "schedule", 0.6


HEADS = ("{day}, {n}", "{n} on {day}", "{day} with {n}", "What {n} does on {day}", "{n}, {day}")


def write(world: World, dice: Dice) -> Document:
    """Somebody's day hour by hour, a shop's week, or boats between two places."""
    of = dice.weighted(("person", "shop", "boats"), (5, 3, 2))
    if of == "shop":
        shop = dice.pick(world.shops)
        lines = dice.pick((_every_day, _as_a_range, _closed_first))(shop)
        told, facts = tell(shop, dice, dice.integer(1, 2), frames=False, skip=("closed_on", "opens"))
        head = dice.pick((f"Hours of {shop.name}", f"When is {shop.name} open?", capital(shop.name), f"{shop.place}: {shop.name}"))
        told_by_lines = (f"{shop.id}/opens", f"{shop.id}/closed_on")
        return Document(KIND, "\n".join([head, *lines, " ".join(told)]), (*facts, *told_by_lines), plan={"of": of})
    if of == "boats":
        here, there = dice.sample([p.name for p in world.places], 2)
        minutes, boat = dice.integer(2, 18) * 5, dice.pick(("Boats", "Coaches", "Ferries", "Carts"))
        starts = sorted(dice.sample(range(6 * 60, 22 * 60, 5), dice.integer(3, 6)))
        lines = [f"{_clock(start)} - {_clock(start + minutes)}" for start in starts]
        head = dice.pick((f"{boat} from {here} to {there}", f"{here} - {there}", f"{boat}: {here} to {there}, {minutes} minutes"))
        return Document(KIND, "\n".join([head, *lines]), plan={"of": of})
    person, hour = pick_person(world, dice), dice.integer(5, 9)
    lines = []
    for _ in range(dice.integer(3, 6)):
        where = f" at the {dice.pick(PLACES_NEAR)}" if dice.chance(0.5) else ""
        lines.append(f"{hour:02d}:{dice.integer(0, 3) * 15:02d} {task(dice)[0]}{where}")
        hour += dice.integer(1, 3)
    told, facts = tell(person, dice, 2, frames=False)
    head = dice.pick(HEADS).format(day=dice.pick(WEEKDAYS), n=person.name)
    return Document(KIND, "\n".join([head, *lines, " ".join(told)]), tuple(facts), plan={"of": of})


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _every_day(shop: Shop) -> list[str]:
    return [f"{d}: " + ("closed" if d == shop.closed_on else f"{shop.opens}:00 to {shop.closes}:00") for d in WEEKDAYS]


def _as_a_range(shop: Shop) -> list[str]:
    at = WEEKDAYS.index(shop.closed_on)
    return [
        f"{WEEKDAYS[(at + 1) % 7]} to {WEEKDAYS[(at + 6) % 7]}: {shop.opens} to {shop.closes} o'clock",
        f"{shop.closed_on}: closed",
    ]


def _closed_first(shop: Shop) -> list[str]:
    return [f"Closed on {shop.closed_on}.", f"Opens at {shop.opens}.", f"Closes at {shop.closes}."]
