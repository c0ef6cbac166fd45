"""What several kinds of documents share: telling facts, and moods and moments to begin with."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import (
    ANIMALS,
    EMOTIONS,
    KIN,
    MONTHS,
    PLACES_NEAR,
    PLANTS,
    WEATHER,
    WEEKDAYS,
)
from sprout.world.state import RELATIONS, Entity, Person, World, kind_of, value_of
from sprout.world.vocabulary import act, deed, doing, manner_of, quality, thing, things
from sprout.world.wording import articles, capital, say


def pick_person(world: World, dice: Dice) -> Person:
    """A told person; earlier ones are mentioned somewhat more often (a Zipf law with exponent 1/2)."""
    return dice.weighted(world.people, [(i + 1) ** -0.5 for i in range(len(world.people))])


def tell(
    entity: Entity, dice: Dice, count: int, frames: bool = True, skip: tuple[str, ...] = ()
) -> tuple[list[str], list[str]]:
    """`count` facts of an entity as sentences, the first with the full name, later ones often with a pronoun; and the
    facts' ids."""
    relations = [r for r in RELATIONS[kind_of(entity)] if r not in skip]
    relations = dice.sample(relations, min(count, len(relations)))
    sentences = []
    his = entity.his if isinstance(entity, Person) else "its"
    for i, relation in enumerate(relations):
        name = entity.name
        if i and isinstance(entity, Person) and dice.chance(0.6):
            name = dice.pick((entity.first, entity.he))
        said = say(name, relation, value_of(entity, relation), dice, his, frames)
        sentences.append(said if name != (entity.he if isinstance(entity, Person) else "") else _case(said, entity))
    return sentences, [f"{entity.id}/{r}" for r in relations]


def _case(text: str, entity: Entity) -> str:
    """Put pronouns that ended up behind a preposition or verb into the right case: 'of she' becomes 'of her'."""
    assert isinstance(entity, Person)
    he, him = entity.he, entity.him
    for before in ("of", "with", "to", "taste better to"):
        text = text.replace(f" {before} {he} ", f" {before} {him} ").replace(f" {before} {he},", f" {before} {him},")
        text = text.replace(f" {before} {he}.", f" {before} {him}.")
    return text.replace(f"find {he} in", f"find {him} in").replace(f"is {he}.", f"is {he}.")


def moment(dice: Dice) -> str:
    """A when or how to begin a sentence with, with a comma: 'On a foggy Tuesday in May, '."""
    shape = dice.integer(0, 11)
    if shape == 0:
        return f"On {dice.pick(WEEKDAYS)}, "
    if shape == 1:
        return f"One {dice.pick(WEEKDAYS)} in {dice.pick(MONTHS)}, "
    if shape == 2:
        return f"After the {dice.pick(WEATHER)}, "
    if shape == 3:
        return f"In {dice.pick(MONTHS)}, "
    if shape == 4:
        return f"Near the {dice.pick(PLACES_NEAR)}, "
    if shape == 5:
        return f"{capital(manner_of(dice))}, "
    if shape == 6:
        return f"With {articles(' a ' + thing(dice))[1:]} in hand, "
    if shape == 7:
        return f"While {doing(dice, thing(dice))}, "
    if shape == 8:
        return f"Behind the {dice.pick(PLACES_NEAR)}, "
    if shape == 9:
        return f"Because of the {dice.pick(WEATHER)}, "
    if shape == 10:
        return f"Under the {dice.pick(PLANTS)}, "
    return f"{dice.integer(2, 12)} days later, "


def scene(dice: Dice, who: str = "") -> str:
    """A sentence of everyday life, out of many parts."""
    who = who or dice.pick(
        (
            f"the {quality(dice)} {dice.pick(ANIMALS)}",
            f"my {dice.pick(KIN)}",
            "somebody",
            f"a {quality(dice)} stranger",
        )
    )
    shape = dice.integer(0, 4)
    if shape == 0:
        rest = f"{deed(dice)} the {thing(dice)} {manner_of(dice)}"
    elif shape == 1:
        rest = f"{act(dice)[1]} near the {dice.pick(PLACES_NEAR)}, feeling {dice.pick(EMOTIONS)}"
    elif shape == 2:
        rest = f"{deed(dice)} the {quality(dice)} {things(dice)}, and the {dice.pick(ANIMALS)} {deed(dice)} them"
    elif shape == 3:
        rest = f"stopped {doing(dice, thing(dice))} because of the {dice.pick(WEATHER)}"
    else:
        rest = f"{act(dice)[1]} {manner_of(dice)} until the {dice.pick(WEATHER)} came"
    start = moment(dice) if dice.chance(0.5) else ""
    return articles(capital(f"{start}{who} {rest}")) + "."


def shuffled(dice: Dice, sentences: list[str]) -> str:
    """The sentences in random order, as one paragraph."""
    sentences = list(sentences)
    dice.shuffle(sentences)
    return " ".join(sentences)
