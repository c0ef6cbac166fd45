"""Reading exercises: a passage about people nobody has heard of, questions and answers."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.skills import sample
from sprout.world.state import World
from sprout.world.types import Document

KIND, SHARE = "quiz", 4.0
FORMS = ("Question: {q}\nAnswer: {a}", "Q: {q}\nA: {a}", "{q}\n{a}", "Exercise.\n{q}\nSolution: {a}", "{q} - {a}")
TOPICS = (
    "reading",
    "summary",
    "format",
    "followup",
    "spelling",
    "arithmetic",
    "sorting",
    "dates",
    "word_problems",
    "refusal",
    "small_talk",
)
WEIGHTS = (6, 2, 1, 2, 1, 2, 1, 1, 2, 0.5, 0.5)


def write(world: World, dice: Dice) -> Document:
    """A problem of a skill and its answer as plain prose, without the chat format."""
    topic = dice.weighted(TOPICS, WEIGHTS)
    problem = sample(topic, world, dice, "train")
    asked = "\n".join(m.content for m in problem.prompt)
    text = dice.pick(FORMS).format(q=asked.replace("{", "{{").replace("}", "}}"), a=problem.reply[-1].content)
    return Document(
        KIND, text.replace("{{", "{").replace("}}", "}"), problem.facts, skills=(topic,), plan={"topic": topic}
    )
