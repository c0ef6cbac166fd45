"""Stories with characters who want something."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import moment, scene
from sprout.world.lexicon import ANIMALS, EMOTIONS, KIN, NUMBERS, PLACES_NEAR, WEATHER
from sprout.world.names import ENDS_FIRST, make_name
from sprout.world.skills import story as skill
from sprout.world.state import World
from sprout.world.types import Document
from sprout.world.vocabulary import LARGE, deed, held, manner_of, temper, thing
from sprout.world.wording import articles, capital

KIND, SHARE = "story", 3.5
GOALS = ("wanted {o}", "was looking for {o}", "needed {o} for {his} {k}", "had lost {o}", "wished for {o}", "dreamt of {o}",
         "had promised {o} to {his} {k}", "was sent for {o}", "longed for {o}", "asked everybody for {o}")  # fmt: skip
TROUBLES = ("but the {h} was closed because of {w}", "but a {j} {b} stood in the way", "but nobody at the {h} would help",
            "but the {b} had hidden it {d}", "but {u} roads led to the {p}", "but {his} {k} said no {d}", "but then the {w} came",
            "but the {y} had swallowed it", "but a {j} stranger had bought it", "but {w} kept {him} at the {h}")  # fmt: skip
TURNS = ("Then a {j} {b} came and said: '{s}.'", "{n} sat down {d} and thought of {his} {k}.", "Suddenly {n} heard the {b} behind the {h}.",
         "'{s},' whispered {n}, and {v} the {q}.", "The {b} {v} the {q} and ran to the {p}.", "'{s}!' called the {b} from the {p}.",
         "For {c} days {n} asked at the {h}.", "By the {p} {n} met a {b}, {e} and {j}.")  # fmt: skip
SAYINGS = ("Look behind the {l}", "Do not be {f}", "I will help you", "Nobody ever asked me", "Give me the {q} first",
           "Wait until the {w} is over", "Follow me to the {p}", "The {k} knows", "It was never lost")  # fmt: skip
ENDS = ("In the end {n} found {o} under the {l}, and was {e}.", "So {n} got {o} and shared it, {e} at last, with the {b}.",
        "{n} never saw {o} again, but the {b} became a friend.", "From that day {n} kept {o} by the {p} and felt {e}.",
        "{n} brought {o} to {his} {k}, who was {e}.", "The {b} gave {n} {o} for the {q}, and went home {e}.",
        "There, behind the {l}, was {o}. {n} laughed, {e} again.", "And {o}? {n} left it, {e}, at the {h}.")  # fmt: skip
CAN_CLOSE = ("mill", "church", "school", "market", "inn", "tavern", "bakery", "forge", "harbour", "library")
WATERS = ("river", "lake", "pond", "well", "marsh", "spring", "canal", "ditch")
HARD = ("long", "steep", "narrow", "dark", "muddy", "crooked", "rough", "unknown", "full of thistles", "under water")
GLAD = ("happy", "proud", "glad", "calm", "excited", "grateful", "hopeful", "relieved", "content", "surprised")


def write(world: World, dice: Dice) -> Document:
    """Opening, goal, trouble, turn, ending, each from many parts; every fourth is in the plain style of the story skill."""
    if dice.chance(0.25):
        problem = skill.make(world, dice)
        return Document(KIND, problem.reply[-1].content, skills=("story",), plan={"style": "plain"})
    her = dice.chance(0.5)
    friend, hero_kind = dice.sample(ANIMALS, 2)
    words = {
        "n": make_name(dice, ENDS_FIRST), "his": "her" if her else "his", "him": "her" if her else "him", "k": dice.pick(KIN),
        "o": "the " + held(dice), "p": dice.pick(PLACES_NEAR), "h": dice.pick(CAN_CLOSE), "w": dice.pick(WEATHER),
        "j": temper(dice), "b": friend, "d": manner_of(dice), "q": thing(dice), "v": deed(dice), "e": dice.pick(GLAD),
        "f": dice.pick(EMOTIONS), "u": dice.pick(HARD), "l": dice.pick(LARGE), "y": dice.pick(WATERS), "c": NUMBERS[dice.integer(2, 12)],
    }  # fmt: skip
    words["s"] = dice.pick(SAYINGS).format(**words)
    goal, trouble = dice.pick(GOALS).format(**words), dice.pick(TROUBLES).format(**words)
    kind = f"the {temper(dice)} {hero_kind}" if dice.chance(0.4) else ""
    hero = f"{words['n']}, {kind}," if kind else words["n"]
    opening = f"{moment(dice) if dice.chance(0.6) else ''}{hero} {goal}, {trouble}."
    parts = [
        capital(opening),
        dice.pick(TURNS).format(**words),
        scene(dice, words["n"]),
        dice.pick(ENDS).format(**words),
    ]
    if dice.chance(0.4):
        parts.insert(dice.integer(0, 2), scene(dice))
    return Document(KIND, articles(" " + " ".join(parts))[1:], plan={"goal": goal.split()[0], "feeling": words["e"]})
