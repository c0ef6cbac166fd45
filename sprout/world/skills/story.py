"""Writing a story that uses given words."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import ADJECTIVES, ANIMALS, EMOTIONS, OBJECTS, PLACES_NEAR
from sprout.world.names import ENDS_FIRST, make_name
from sprout.world.skills.common import assistant, mentions, some_tools, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict, final_text
from sprout.world.wording import articles

NAME, SHARE = "story", 2.0
ASKS = ("Write a story with the words {w}.", "Tell me a story with {w}.", "Make up a story that uses {w}.", "I want a story with {w}.",
        "Write a short story. Use {w}.", "A story with {w}, please.")  # fmt: skip
# Well-known names, and how often the hero has one of them; else one made of syllables. Of made names alone the likeliest
# is made of the likeliest syllables, and stammers (LOG.md).
HEROES = tuple("Anna Bruno Carla Dino Elsa Felix Greta Hugo Ida Jonas Karla Leo Mona Nils Olga Paul Rita Simon Tina Udo Vera "
               "Willem Yara Zeno".split())  # fmt: skip
KNOWN_HERO = 0.6
OPENINGS = (
    "Once there was a {j} {a} named {n}.",
    "{n} was a {j} {a}.",
    "There lived a {j} {a} called {n}.",
    "Long ago {n} was a {j} {a}.",
)
WANTS = ("{n} wanted a {o}.", "{n} had always dreamt of a {o}.", "More than anything {n} wished for a {o}.")
TRIES = (
    "So {n} went to the {p} and looked everywhere.",
    "{n} asked a friend at the {p} for help.",
    "One day {n} walked to the {p} alone.",
)
ENDINGS = (
    "There was a {o} under a leaf. {n} was {e}.",
    "A friend brought a {o}, and {n} was {e}.",
    "At last {n} found a {o} and was {e}.",
)
GOOD = ("happy", "glad", "proud", "grateful", "excited")


def make(world: World, dice: Dice) -> Problem:
    """An animal, a thing and an adjective in any order are to be used; the animal is the hero who wants the thing."""
    animal, thing, adjective = dice.pick(ANIMALS), dice.pick(OBJECTS), dice.pick(ADJECTIVES)
    place, feeling = dice.pick(PLACES_NEAR), dice.pick(GOOD)
    name = dice.pick(HEROES) if dice.chance(KNOWN_HERO) else make_name(dice, ENDS_FIRST)
    parts = [dice.pick(OPENINGS), dice.pick(WANTS), dice.pick(TRIES), dice.pick(ENDINGS)]
    story = articles(" " + " ".join(parts).format(j=adjective, a=animal, n=name, o=thing, p=place, e=feeling))[1:]
    words = [animal, thing, adjective]
    dice.shuffle(words)
    asked = dice.pick(ASKS).format(w=f"{words[0]}, {words[1]} and {words[2]}")
    key = "story:" + ",".join(sorted(words))
    return Problem(NAME, key, (user(asked),), (assistant(story),), story, some_tools(dice), truth={"words": words})


def known_words() -> frozenset[str]:
    """Every word that a story may hold besides its hero's name."""
    frames = " ".join((*OPENINGS, *WANTS, *TRIES, *ENDINGS)).lower()
    letters = "".join(c if c.isalpha() else " " for c in frames)
    return frozenset({*letters.split(), *ANIMALS, *OBJECTS, *ADJECTIVES, *PLACES_NEAR, *EMOTIONS, *GOOD, "an"})


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if all words are used in three to eight different whole sentences, everybody named is introduced in the
    first sentence and nobody else appears, every other word is one of the world's, and the ending says how the hero feels."""
    text = final_text(reply)
    if not text.endswith("."):
        return Verdict(False, "ends in the middle of a sentence")
    missing = next((w for w in problem.truth["words"] if not mentions(text, w)), None)
    if missing:
        return Verdict(False, f"does not use {missing!r}")
    sentences = [s.strip() for s in text.split(".") if s.strip()]
    if not 3 <= len(sentences) <= 8 or len(set(sentences)) < len(sentences):
        return Verdict(False, "not three to eight different sentences")
    known = known_words()
    strange: list[set[str]] = []
    for sentence in sentences:
        words = "".join(c if c.isalpha() else " " for c in sentence).split()
        strange.append({w for w in words if w.lower() not in known})
    names = set().union(*strange)
    if len(names) != 1 or strange[0] != names or not next(iter(names)).istitle():
        return Verdict(False, f"the hero is not introduced at once, or there are strange words: {sorted(names)[:3]}")
    if sum(names <= s for s in strange) < 3:
        return Verdict(False, "the hero gets lost")
    return Verdict(True)
