"""Spelling a word, reversing it, counting its letters."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.lexicon import SHORT_WORDS
from sprout.world.skills.common import assistant, some_tools, stepwise, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict

NAME, SHARE = "spelling", 2.8
ASKS = {
    "spell": ("Spell {w}.", "How do you spell {w}?", "How is the word {w} spelled?", "Please spell the word {w}."),
    "reverse": ("Spell {w} backwards.", "What is {w} backwards?", "Reverse the word {w}.", "Write {w} from back to front."),
    "length": ("How many letters does {w} have?", "Count the letters of {w}.", "How long is the word {w}?", "How many letters are in {w}?"),
    "count": ("How many times is {l} in {w}?", "How often does {l} occur in {w}?", "Count the letter {l} in {w}.",
              "How many {l} are in the word {w}?"),
    "last": ("What is the last letter of {w}?", "Which letter ends the word {w}?", "Tell me the last letter of {w}."),
    "first": ("What is the first letter of {w}?", "Which letter begins the word {w}?", "Tell me the first letter of {w}."),
}  # fmt: skip


def make(world: World, dice: Dice) -> Problem:
    """One of six tasks on a word of the lexicon; replies spell the word first, letters numbered or held against the one
    to count, which makes the rest easy."""
    task, word = dice.weighted(tuple(ASKS), (1.5, 2.5, 0.8, 3.5, 0.6, 0.6)), dice.pick(SHORT_WORDS)
    letter = dice.pick(word) if dice.chance(0.7) else dice.pick("aeiouslrtn")
    spelled = " ".join(word)
    numbered = [f"{i} {c}" for i, c in enumerate(word, 1)]
    if task == "spell":
        steps, answer = [], spelled
    elif task == "reverse":
        steps, answer = [spelled, ", ".join(numbered), ", ".join(reversed(numbered))], " ".join(reversed(word))
    elif task == "length":
        steps, answer = [spelled, ", ".join(numbered)], str(len(word))
    elif task == "count":
        found, marks = 0, []
        for c in word:
            found += c == letter
            marks.append(f"{c} {letter} {found}")
        steps, answer = [f"{letter}: {spelled}", ", ".join(marks)], str(found)
    else:
        steps, answer = [spelled], word[-1] if task == "last" else word[0]
    lines = (*steps, f"The answer is {answer}.")
    question = dice.pick(ASKS[task]).format(w=word, l=letter)
    key = f"spelling:{task}:{word}" + (f":{letter}" if task == "count" else "")
    return Problem(NAME, key, (user(question),), (assistant("\n".join(lines)),), answer, some_tools(dice), steps=lines)


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the answer is; tells the first wrong step."""
    return stepwise(problem, reply)
