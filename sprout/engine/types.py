"""What goes into the engine and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. Temperature 0 always takes the likeliest; top_k 0 and top_p 1 leave everything in.

    The same seed gives the same reply, alone or in any batch. `max_tokens` counts what the model says itself, tool
    calls included; a prompt and its reply never exceed the model's context either.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature is {self.temperature}; expected 0 (the likeliest) or more; 1 is as trained.")
        if self.top_k < 0:
            raise UserError(f"top_k is {self.top_k}; expected 0 (no limit) or the number of tokens to choose from.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; expected a probability above 0 and at most 1 (no limit).")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}; expected at least 1.")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to go on with and the names of the tools that its reply may call; or, instead of messages, a plain
    text to go on with, as a document."""

    messages: tuple[Message, ...] = ()
    tools: tuple[str, ...] = ()
    text: str | None = None

    def __post_init__(self) -> None:
        if self.text is None and not self.messages:
            raise UserError("the prompt is empty; expected at least one message, or a text to go on with.")
        if self.text is not None and (self.messages or self.tools):
            raise UserError("the prompt has a text besides messages or tools; give one or the other.")


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply.

    `ids` is all that followed the prompt; `sampled` tells which of them the model chose (the others are tool results
    and headers, placed by the engine); `logprobs` are theirs in nats under the model's own distribution, that is at
    temperature 1 with nothing filtered or forbidden, and 0 for placed ones. All three are equally long. `messages` are
    the same as messages. `finish` is 'stop' for an ended reply, 'length' at max_tokens, 'context' at the model's end.
    """

    prompt_ids: list[int]
    ids: list[int]
    sampled: list[bool]
    logprobs: list[float]
    messages: tuple[Message, ...]
    finish: str

    @property
    def text(self) -> str:
        """The text of the last assistant message."""
        return next((m.content for m in reversed(self.messages) if m.role == "assistant"), "")


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of a reply that is being written. `kind` says which field counts: 'text' (`text`), 'call' (`call`; None
    for a malformed one, which `text` spells), 'result' (`text`: what the tool answered), at last 'done' (`completion`).
    """

    kind: str
    text: str = ""
    call: ToolCall | None = None
    completion: Completion | None = None
