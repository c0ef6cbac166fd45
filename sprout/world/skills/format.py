"""Following a format: one word, a list of n, JSON, capitals."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from sprout.world.dice import Dice
from sprout.world.lexicon import ADJECTIVES, ANIMALS, COLOURS, FOODS, INSTRUMENTS, OBJECTS, PLANTS, ROOMS, TRADES
from sprout.world.names import ENDS_FIRST, make_name
from sprout.world.skills.common import assistant, exact, some_tools, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict, final_text

NAME, SHARE = "format", 3.5
KINDS = {
    "animals": ANIMALS, "colours": COLOURS, "foods": FOODS, "plants": PLANTS, "instruments": INSTRUMENTS, "trades": TRADES,
    "rooms": ROOMS, "objects": OBJECTS, "qualities": ADJECTIVES,
}  # fmt: skip
SHORT = tuple(w for w in OBJECTS if len(w) <= 5)  # few enough to learn their capitals
ASKS = {
    "list": (
        "Name {k} of these {x}: {w}.", "List {k} of these {x}: {w}.", "Give me a list of {k} of these {x}: {w}.",
        "Pick {k} of these {x}: {w}.", "I need {k} of these {x}: {w}.",
    ),
    "json": ("Write as JSON: name {n}, age {a}, pet {p}.", "Give me JSON for name {n}, age {a}, pet {p}.", "As JSON: name {n}, age {a}, pet {p}."),
    "capitals": ("Write in capitals: {w}.", "Put this in capital letters: {w}.", "All caps, please: {w}."),
    "one_word": ("{w} Answer in one word: what colour is the {o}?", "{w} One word, please: what colour is the {o}?",
                 "{w} In one word, what is the colour of the {o}?"),
    "numbered": ("Number these: {w}.", "Make a numbered list of {w}.", "Write as a numbered list: {w}."),
}  # fmt: skip


def numbered(words: Sequence[str]) -> str:
    """A numbered list, an item a line."""
    return "\n".join(f"{i}. {w}" for i, w in enumerate(words, 1))


def make(world: World, dice: Dice) -> Problem:
    """One of five formats, filled with words of the world. 'list' takes any different ones of those named."""
    task = dice.weighted(tuple(ASKS), (2, 1, 1, 2, 0.8))  # the harder ones more often
    kind, k = dice.pick(tuple(KINDS)), dice.integer(2, 4)
    words = dice.sample(SHORT if task == "capitals" else OBJECTS, dice.integer(2, 3))
    thing = ""
    name, age, pet = make_name(dice, ENDS_FIRST), dice.integer(5, 90), dice.pick(ANIMALS)
    if task == "list":
        words = dice.sample(KINDS[kind], k + dice.integer(1, 2))
        reply, shown = numbered(words[:k]), ", ".join(words)
        key = f"list:{k}:{shown}"
    elif task == "json":
        reply, shown = json.dumps({"name": name, "age": age, "pet": pet}), ""
        key = f"json:{name}:{age}:{pet}"
    elif task == "capitals":
        reply, shown = " ".join(words).upper(), " ".join(words)
        key = f"capitals:{shown}"
    elif task == "one_word":
        colours = dice.sample(COLOURS, len(words))
        asked = dice.integer(0, len(words) - 1)
        reply, thing = colours[asked], words[asked]
        shown = " ".join(f"The {w} is {c}." for w, c in zip(words, colours, strict=True))
        key = f"one_word:{thing}:{shown}"
    else:
        reply, shown = numbered(words), ", ".join(words)
        key = f"numbered:{shown}"
    question = dice.pick(ASKS[task]).format(x=kind, k=k, w=shown, n=name, a=age, p=pet, o=thing)
    truth = {"task": task, "pool": words, "count": k}
    return Problem(NAME, f"format:{key}", (user(question),), (assistant(reply),), reply, some_tools(dice), truth=truth)


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the format is kept and the content is right; a list may hold any different ones of those named."""
    text, task = final_text(reply), problem.truth["task"]
    if task == "list":
        items = [re.sub(r"^\d+\. ", "", item) for item in re.split(r", |\n", text.rstrip("."))]
        pool, count = problem.truth["pool"], problem.truth["count"]
        right = len(items) == count == len(set(items)) and all(x in pool for x in items)
        return Verdict(right, "" if right else f"not {count} different ones of {', '.join(pool)}")
    if task == "json":
        try:
            right = json.loads(text) == json.loads(problem.answer)
        except (ValueError, RecursionError):
            right = False
        return Verdict(right, "" if right else "not the JSON asked for")
    if task == "capitals":
        right = text == problem.answer
        return Verdict(right, "" if right else "not these words in capitals")
    return exact(problem, reply)
