"""Turning a paragraph into one summary sentence."""

from __future__ import annotations

import re

from sprout.world.dice import Dice
from sprout.world.skills.common import NEGATIONS, VALUES, assistant, foreign, mentioned, mentions, some_tools, user
from sprout.world.state import World, fresh_person, value_of
from sprout.world.types import Problem, Reply, Verdict, final_text
from sprout.world.wording import articles, say

NAME, SHARE = "summary", 0.5
ASKS = ("Sum this up in one sentence:", "Put this into one sentence:", "Summarise:", "In short, what does this say?",
        "Give me a summary in one sentence:", "Make one sentence of this:")  # fmt: skip
MAIN, EXTRA = ("trade", "home", "instrument"), ("food", "colour", "pet")
LONGEST = 25  # words


def make(world: World, dice: Dice) -> Problem:
    """Three to five sentences about a fresh person; trade, home and instrument belong into the summary."""
    person = fresh_person(dice, tuple(p.name for p in world.places))
    relations = [*MAIN, *dice.sample(EXTRA, dice.integer(0, 2))]
    dice.shuffle(relations)
    told = [say(person.first, r, value_of(person, r), dice, person.his, frames=dice.chance(0.3)) for r in relations]
    short = articles(f"{person.first} is a {person.trade} from {person.home} who plays the {person.instrument}.")
    wanted = [person.first, person.trade, person.home, person.instrument]
    truth = {"wanted": wanted, "told": [value_of(person, r) for r in relations]}
    prompt = (user(f"{dice.pick(ASKS)} {' '.join(told)}"),)
    key = "summary:" + ":".join(wanted)
    reply, tools = (assistant(short),), some_tools(dice)
    return Problem(NAME, key, prompt, reply, short, tools, truth=truth, difficulty=len(relations))


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if one sentence of at most 25 words holds who, trade, home and instrument, and nothing that the text does
    not say."""
    text, wanted, told = final_text(reply), problem.truth["wanted"], problem.truth["told"]
    ends = sum(text.count(c) for c in ".!?\n")
    if ends != 1 or not text.endswith(".") or len(text.split()) > LONGEST:
        return Verdict(False, f"not one sentence of at most {LONGEST} words")
    if missing := next((w for w in wanted if not mentions(text, w)), None):
        return Verdict(False, f"leaves out {missing!r}")
    others = (v for r in (*MAIN, *EXTRA) for v in VALUES.get(r, ()) if v not in told)
    wrong = foreign(text, " ".join([*wanted, *told])) or mentioned(text, others)
    wrong = wrong or next((w for w in re.findall(r"[\w'-]+", text.lower()) if w in NEGATIONS), None)
    return Verdict(wrong is None, f"says {wrong!r}, which the text does not" if wrong else "")
