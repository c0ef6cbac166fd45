"""Saying no politely to what a text model can't do."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import FOODS, PLACES_NEAR
from sprout.world.skills.common import assistant, some_tools, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict, final_text

NAME, SHARE = "refusal", 0.7
POLITE = ("{r}.", "Please {r}.", "Can you {r}?", "Could you {r} for me?", "I want you to {r}.", "Would you {r}?", "{r}, please.")
REQUESTS = (
    "send a letter to {n}", "order some {f}", "drive me to the {p}", "call {n}", "play some music at the {p}",
    "take a picture of the {p}", "pay {n} for the {f}", "book a room near the {p}", "cook {f} for {n}", "open the door for {n}",
    "wake {n} at seven", "show me a film about the {p}", "buy {f} at the {p}", "carry the {f} to the {p}", "ring the bell of the {p}",
    "log in to the account of {n}", "print a picture of {n}", "turn on the light in the {p}", "bring {n} some {f}",
)  # fmt: skip
REPLY = "I am sorry, I can not do that. I can only read and write text."


def make(world: World, dice: Dice) -> Problem:
    """A request outside the model's abilities; the key is the request without its name."""
    request, food, place = dice.pick(REQUESTS), dice.pick(FOODS), dice.pick(PLACES_NEAR)
    asked = dice.pick(POLITE).format(r=request.format(n=dice.pick(world.strangers).first, f=food, p=place))
    key = "refusal:" + request.format(n="NAME", f=food, p=place)
    return Problem(NAME, key, (user(asked[:1].upper() + asked[1:]),), (assistant(REPLY),), REPLY, some_tools(dice))


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply is sorry, says that it can't, and uses no tool."""
    text = final_text(reply).lower()
    right = "sorry" in text and ("can not" in text or "cannot" in text) and all(m.call is None for m in reply)
    return Verdict(right, "" if right else "does not refuse politely")
