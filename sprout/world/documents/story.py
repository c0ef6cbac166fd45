"""Stories with characters who want something."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.documents.common import moment, scene
from sprout.world.lexicon import ANIMALS, EMOTIONS, KIN, PLACES_NEAR, WEATHER
from sprout.world.names import ENDS_FIRST, make_name
from sprout.world.skills import story as skill
from sprout.world.state import World
from sprout.world.types import Document
from sprout.world.vocabulary import deed, manner_of, quality, thing
from sprout.world.wording import articles, capital

KIND, SHARE = "story", 3.5
GOALS = (
    "wanted {o}",
    "was looking for {o}",
    "needed {o} for {his} {k}",
    "had lost {o}",
    "wished for nothing but {o}",
    "had promised {o} to {his} {k}",
)
TROUBLES = ("but the {p} was closed because of the {w}", "but a {j} {b} stood in the way", "but nobody at the {p} would help",
            "but the {b} had hidden it {d}", "but the way to the {p} was {j}", "but {his} {k} said no {d}")  # fmt: skip
TURNS = ("Then a {j} {b} came and said: '{s}'", "{n} sat down {d} and thought of {his} {k}.", "Suddenly {n} heard the {b} behind the {p}.",
         "'{s}' whispered {n}, and {v} the {q}.", "The {b} {v} the {q} and ran to the {p}.")  # fmt: skip
SAYINGS = ("Look behind the {q}!", "Why are you {f}?", "I will help you.", "Nobody ever asked me.", "Give me the {q} and I will show you.",
           "Wait until the {w} is over.", "Follow me to the {p}.")  # fmt: skip
ENDS = ("In the end {n} found {o} under the {q}, and was {e}.", "So {n} shared {o} with the {b}, and both were {e}.",
        "{n} never found {o}, but now there was a friend, the {b}.", "From that day {n} kept {o} in the {p} and felt {e}.",
        "{n} gave {o} to {his} {k}, who was {e}.")  # fmt: skip


def write(world: World, dice: Dice) -> Document:
    """Opening, goal, trouble, turn, ending, each from many parts; every fourth is in the plain style of the story skill."""
    if dice.chance(0.25):
        problem = skill.make(world, dice)
        return Document(KIND, problem.reply[-1].content, skills=("story",), plan={"style": "plain"})
    her = dice.chance(0.5)
    words = {
        "n": make_name(dice, ENDS_FIRST), "his": "her" if her else "his", "k": dice.pick(KIN), "o": "the " + thing(dice),
        "p": dice.pick(PLACES_NEAR), "w": dice.pick(WEATHER), "j": quality(dice), "b": dice.pick(ANIMALS),
        "d": manner_of(dice), "q": thing(dice), "v": deed(dice), "e": dice.pick(EMOTIONS), "f": dice.pick(EMOTIONS),
    }  # fmt: skip
    words["s"] = dice.pick(SAYINGS).format(**words)
    goal, trouble = dice.pick(GOALS).format(**words), dice.pick(TROUBLES).format(**words)
    kind = f"the {quality(dice)} {dice.pick(ANIMALS)}" if dice.chance(0.4) else ""
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
