"""What the model says: the prompts that every stage answers for the report, and fresh samples for who watches it grow."""

from __future__ import annotations

import itertools
import math
import time

from sprout.common.messages import Message
from sprout.engine import Engine, Prompt, Sampling
from sprout.evals import problems_for
from sprout.recipe.config import Session
from sprout.recipe.sources import documents, fits, talks_at_all

EVERY = 20.0  # seconds between fresh samples, at least
SHARE = 0.01  # of the time, at most, that fresh samples take
AT_ONCE = 2  # prompts; two take hardly longer than one
MAX_TOKENS = 48


def spoken(messages: tuple[Message, ...]) -> str:
    """A reply as a person reads it, tool calls in brackets."""
    lines = []
    for m in messages:
        if m.role == "tool":
            lines.append(f"[result: {m.content}]")
        else:
            lines.append(m.content + (f"[{m.call.name} {m.call.arguments}]" if m.call else ""))
    return "\n".join(line for line in lines if line)


def sample_prompts(s: Session) -> list[Prompt]:
    """The prompts that every stage answers for the report."""
    if not s.config.uses_world:
        asked = ["Hello! Who are you?", "What is the capital of France?", "Tell me a story.", "What is 12 + 30?"]
        return [Prompt((Message("user", text),)) for text in asked]
    names = ("small_talk", "recall", "reading", "lookup", "unknown", "arithmetic", "word_problems", "story")
    return [Prompt(p.prompt, p.tools) for p in problems_for(s.world, names, 1, "test", seed=7) if fits(s, p)]


def beginnings(s: Session) -> list[Prompt]:
    """The first words of held-out documents, to go on with."""
    texts = itertools.islice(documents(s, "validation", 7), 6)
    return [Prompt(text=text[:40].rpartition(" ")[0] or text[:40]) for text in texts]


class Samples:
    """Lets the model answer while it is trained, for the journal: in pretraining it goes on with texts, later it replies.

    Weights, gradients, dtype and random numbers are afterwards what they were before: the engine computes in inference
    mode on a copy, and draws from no generator of torch's. Whatever goes wrong is said once, and ends the
    samples of this stage, not the stage.
    """

    def __init__(self, s: Session, stage: str) -> None:
        self.s, self.stage = s, stage
        self.engine = Engine(s.model, s.tokenizer, s.toolbox, max_batch=AT_ONCE)
        self.prompts = beginnings(s) if stage == "pretrain" or not talks_at_all(s) else sample_prompts(s)
        self.due = time.perf_counter() + EVERY
        self.taken = 0
        self.fastest = math.inf  # seconds; a moment in which the machine was busy does not count for long

    def now_and_then(self, step: int) -> None:
        """`take`, where the last time was 20 seconds ago, and 100 times as long ago as it takes."""
        began = time.perf_counter()
        if began >= self.due:
            self.take(step)
            now = time.perf_counter()
            self.fastest = min(self.fastest, now - began)
            self.due = now + max(EVERY, self.fastest / SHARE)

    def take(self, step: int) -> None:
        """Answer the next two prompts, and tell the journal."""
        if not self.prompts:
            return
        turn = [self.prompts[(self.taken + i) % len(self.prompts)] for i in range(min(AT_ONCE, len(self.prompts)))]
        self.taken += len(turn)
        try:
            replies = self.engine.generate(turn, Sampling(max_tokens=MAX_TOKENS))
        except Exception as error:  # whatever it is, training must not end for it
            self.s.say(f"note: {self.stage}: no more samples while it is trained ({error})")
            self.prompts = []
            return
        for prompt, completion in zip(turn, replies, strict=True):
            asked = prompt.messages[-1].content if prompt.text is None else prompt.text
            self.s.journal.sample(self.stage, step, asked, spoken(completion.messages))
