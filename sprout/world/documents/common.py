"""What several kinds of documents share: telling facts, and moods and moments to begin with."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import (
    ANIMALS,
    EMOTIONS,
    KIN,
    MONTHS,
    NUMBERS,
    PLACES_NEAR,
    PLANTS,
    ROOMS,
    WEATHER,
    WEEKDAYS,
)
from sprout.world.state import RELATIONS, Entity, Person, World, kind_of, value_of
from sprout.world.vocabulary import BEFORE_VERBS, act, deed, held, manner_of, quality, task, temper, thing, things
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
    he, his = (entity.he, entity.his) if isinstance(entity, Person) else ("it", "its")
    short = entity.first if isinstance(entity, Person) else entity.name
    sentences = []
    for i, relation in enumerate(relations):
        name = dice.pick((short, he)) if i and dice.chance(0.6) else entity.name
        sentences.append(say(name, relation, value_of(entity, relation), dice, his, frames))
    return sentences, [f"{entity.id}/{r}" for r in relations]


def moment(dice: Dice) -> str:
    """A when, where or how to begin a sentence with, with a comma: 'One Tuesday in May, '."""
    shape = dice.integer(0, 12)
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
        return f"With {articles(' a ' + held(dice))[1:]} in hand, "
    if shape == 7:
        return f"While {task(dice)[2]}, "
    if shape == 8:
        return f"Behind the {dice.pick(PLACES_NEAR)}, "
    if shape == 9:
        return f"{dice.pick(('In spite of', 'Because of', 'Before', 'Despite'))} the {dice.pick(WEATHER)}, "
    if shape == 10:
        return f"Under the {dice.pick(PLANTS[:8])}, "
    if shape == 11:
        return f"{dice.pick(('Soon', 'Again', 'Perhaps by chance', 'Somehow', 'Later', 'Indeed'))}, "
    return f"{capital(NUMBERS[dice.integer(2, 12)])} {dice.pick(('days', 'weeks', 'hours'))} later, "


def scene(dice: Dice, who: str = "") -> str:
    """A sentence of everyday life, out of many parts."""
    who = who or dice.pick(
        (f"the {temper(dice)} {dice.pick(ANIMALS)}", f"my {dice.pick(KIN)}", "somebody", f"a {temper(dice)} stranger")
    )
    shape = dice.integer(0, 5)
    if shape == 0:
        rest = f"{task(dice)[1]} {manner_of(dice)}"
    elif shape == 1:
        rest = f"{act(dice)[1]} near the {dice.pick(PLACES_NEAR)}, {dice.pick(EMOTIONS)} and {dice.pick(EMOTIONS)}"
    elif shape == 2:
        rest = f"{deed(dice)} the {quality(dice)} {things(dice)}, and the {dice.pick(ANIMALS)} {deed(dice)} them"
    elif shape == 3:
        rest = f"stopped {task(dice)[2]} {dice.pick(('when', 'before', 'after'))} the {dice.pick(WEATHER)} came"
    elif shape == 4:
        rest = f"{dice.pick(BEFORE_VERBS)} {deed(dice)} the {thing(dice)} in the {dice.pick(ROOMS)}"
    else:
        rest = f"{act(dice)[1]} {manner_of(dice)} until the {dice.pick(WEATHER)} {dice.pick(('came', 'stopped', 'was over'))}"
    start = moment(dice) if dice.chance(0.5) else ""
    return articles(capital(f"{start}{who} {rest}")) + "."


def woven(dice: Dice, told: list[str], scenes: list[str]) -> str:
    """One paragraph of scenes in random order, with what is told of somebody in one piece among them: whoever 'she' is
    was named just before."""
    sentences = list(scenes)
    dice.shuffle(sentences)
    at = dice.integer(0, len(sentences))
    return " ".join([*sentences[:at], *told, *sentences[at:]])
