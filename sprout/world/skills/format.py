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

NAME, SHARE = "format", 2.8
KINDS = {
    "animals": ANIMALS, "colours": COLOURS, "foods": FOODS, "plants": PLANTS, "instruments": INSTRUMENTS, "trades": TRADES,
    "rooms": ROOMS, "objects": OBJECTS, "qualities": ADJECTIVES,
}  # fmt: skip
ONE = {"foods": "food", "colours": "colour", "qualities": "quality"}  # all others lose their s
ASKS = {
    "list": (
        "Name {x} and {y}.", "List {x} and {y}.", "Give me {x} and {y}.", "Write down {x} and {y}.", "I need {x} and {y}.",
    ),
    "json": ("Write as JSON: name {n}, age {a}, pet {p}.", "Give me JSON for name {n}, age {a}, pet {p}.", "As JSON: name {n}, age {a}, pet {p}."),
    "capitals": ("Write in capitals: {w}.", "Put this in capital letters: {w}.", "All caps, please: {w}."),
    "one_word": ("Which of these is one of the {k}: {w}? Answer with one word.", "Answer in one word: which is one of the {k}, {w}?"),
    "numbered": ("Number these: {w}.", "Make a numbered list of {w}.", "Write as a numbered list: {w}."),
}  # fmt: skip


def listed(count: int, kind: str) -> str:
    """'1 animal', '3 animals'."""
    return f"{count} {ONE.get(kind, kind[:-1]) if count == 1 else kind}"


def numbered(words: Sequence[str]) -> str:
    """A numbered list, an item a line."""
    return "\n".join(f"{i}. {w}" for i, w in enumerate(words, 1))


def make(world: World, dice: Dice) -> Problem:
    """One of five formats, filled with words of the world. 'list' takes any different things of two kinds."""
    task = dice.pick(tuple(ASKS))
    kind, second = dice.sample(tuple(KINDS), 2)
    words = dice.sample(OBJECTS, dice.integer(2, 3))
    k, m = dice.integer(1, 3), dice.integer(1, 3)
    name, age, pet = make_name(dice, ENDS_FIRST), dice.integer(5, 90), dice.pick(ANIMALS)
    if task == "list":
        words = [*dice.sample(KINDS[kind], k), *dice.sample(KINDS[second], m)]
        reply, shown = numbered(words), ""
        key = f"list:{k} {kind}, {m} {second}"  # any fitting words will do, so they are no part of the problem
    elif task == "json":
        reply, shown = json.dumps({"name": name, "age": age, "pet": pet}), ""
        key = f"json:{name}:{age}:{pet}"
    elif task == "capitals":
        reply, shown = " ".join(words).upper(), " ".join(words)
        key = f"capitals:{shown}"
    elif task == "one_word":
        reply = dice.pick(KINDS[kind])
        words = [*dice.sample([w for w in KINDS[second] if w not in KINDS[kind]], 2), reply]
        dice.shuffle(words)
        shown = ", ".join(words[:-1]) + " or " + words[-1]
        key = f"one_word:{shown}"
    else:
        reply, shown = numbered(words), ", ".join(words)
        key = f"numbered:{shown}"
    question = dice.pick(ASKS[task]).format(
        x=listed(k, kind), y=listed(m, second), k=kind, w=shown, n=name, a=age, p=pet
    )
    truth = {"task": task, "pools": [list(KINDS[kind]), list(KINDS[second])], "counts": [k, m]}
    return Problem(NAME, f"format:{key}", (user(question),), (assistant(reply),), reply, some_tools(dice), truth=truth)


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the format is kept and the content is right; a list may hold any different things of its kinds."""
    text, task = final_text(reply), problem.truth["task"]
    if task == "list":
        items = [re.sub(r"^\d+\. ", "", item) for item in re.split(r", |\n", text.rstrip("."))]
        (first, second), (k, m) = problem.truth["pools"], problem.truth["counts"]
        right = len(items) == k + m == len(set(items))
        right = right and all(x in first for x in items[:k]) and all(x in second for x in items[k:])
        return Verdict(right, "" if right else f"not {k} different ones of the first kind and then {m} of the second")
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
