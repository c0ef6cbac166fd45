"""Turning a paragraph into one summary sentence."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, mentions, some_tools, user
from sprout.world.state import World, fresh_person, value_of
from sprout.world.types import Problem, Reply, Verdict, final_text
from sprout.world.wording import articles, say

NAME, SHARE = "summary", 1.0
ASKS = ("Sum this up in one sentence:", "Put this into one sentence:", "Summarise:", "Give me a summary in one sentence:",
        "Make one sentence of this:", "In short, what does this say?")  # fmt: skip


def make(world: World, dice: Dice) -> Problem:
    """A paragraph of three to five sentences about a fresh person; trade, home and instrument belong into the summary."""
    person = fresh_person(dice, tuple(p.name for p in world.places))
    relations = ["trade", "home", "instrument", *dice.sample(("food", "colour", "pet"), dice.integer(0, 2))]
    dice.shuffle(relations)
    told = [say(person.first, r, value_of(person, r), dice, person.his, frames=dice.chance(0.3)) for r in relations]
    short = articles(f"{person.first} is a {person.trade} from {person.home} who plays the {person.instrument}.")
    wanted = [person.first, person.trade, person.home, person.instrument]
    rest = sorted({value_of(p, r) for p in world.strangers[:200] for r in ("trade", "home", "instrument")} - set(wanted))
    prompt = (user(f"{dice.pick(ASKS)} {' '.join(told)}"),)
    key = "summary:" + ":".join(wanted)
    return Problem(NAME, key, prompt, (assistant(short),), short, some_tools(dice), truth={"wanted": wanted, "others": rest})


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if one sentence of at most 25 words holds who, trade, home and instrument, and no other value of these."""
    text = final_text(reply)
    if text.count(".") != 1 or not text.endswith(".") or len(text.split()) > 25:
        return Verdict(False, "not one sentence of at most 25 words")
    missing = next((w for w in problem.truth["wanted"] if not mentions(text, w)), None)
    if missing:
        return Verdict(False, f"leaves out {missing!r}")
    wrong = next((o for o in problem.truth["others"] if mentions(text, o)), None)
    return Verdict(wrong is None, f"says {wrong!r}, which the text does not" if wrong else "")
