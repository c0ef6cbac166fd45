"""Lists: what to buy, what it costs, what to do."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import pick_person, tell
from sprout.world.lexicon import FOODS
from sprout.world.state import World
from sprout.world.types import Document
from sprout.world.vocabulary import task
from sprout.world.wording import capital

KIND, SHARE = "list", 0.6


def write(world: World, dice: Dice) -> Document:
    """A price list of a shop, a shopping list with a sum, or a list of things to do."""
    shape = dice.integer(0, 2)
    if shape == 0:
        shop = dice.pick(world.shops)
        form = dice.pick(("{g}: {c} coins", "a {g}, {c} coins", "{c} coins for a {g}", "{g} ... {c}"))
        lines = [form.format(g=good, c=price) for good, price in shop.goods]
        dice.shuffle(lines)
        told, facts = tell(shop, dice, 3, frames=False)
        n = shop.name
        head = dice.pick((f"Prices at {n}", f"{capital(n)}", f"What {n} sells", f"Today at {n}", f"{shop.place}, {n}"))
        return Document(KIND, "\n".join([head, *lines, " ".join(told)]), tuple(facts), plan={"of": "prices"})
    person = pick_person(world, dice)
    told, facts = tell(person, dice, 2, frames=False)
    if shape == 1:
        items = [(food, dice.integer(1, 20)) for food in dice.sample(FOODS, dice.integer(2, 5))]
        lines = [f"- {food}, {price} coins" for food, price in items]
        lines.append(f"Together: {' + '.join(str(p) for _, p in items)} = {sum(p for _, p in items)} coins")
        head = dice.pick((f"{person.name} buys", f"Shopping list of {person.name}", f"For {person.name}"))
    else:
        lines = [f"{i}. {task(dice)[0]}" for i in range(1, dice.integer(3, 6) + 1)]
        head = dice.pick((f"{person.name}, to do", f"What {person.name} must do", f"{capital(person.first)} should"))
    return Document(
        KIND, "\n".join([head, *lines, " ".join(told)]), tuple(facts), plan={"of": ("shopping", "tasks")[shape - 1]}
    )
