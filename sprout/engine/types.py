"""What goes into the engine and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall

MOST_ALTERNATIVES = 20  # alternatives told for a token, as in OpenAI's API
REPETITION = (0.01, 100)  # bounds of the repetition penalty; far beyond them float32 scores overflow to what is no number
MOST_STOPS, LONGEST_STOP = 8, 200  # stop strings of a reply; characters of each


class TooLong(UserError):
    """A prompt that leaves no room for a reply in the model's context."""

    def __init__(self, what: str, tokens: int, context: int) -> None:
        super().__init__(
            f"{what} has {tokens} tokens and the model reads {context}, its reply included; "
            f"shorten it by at least {tokens - context + 1}."
        )
        self.tokens, self.context = tokens, context

    @classmethod
    def told(cls, message: str) -> TooLong:
        """One of a server that knows its context and tells it in its own words."""
        error = cls("the conversation", 0, 0)
        error.args = (message,)
        return error


class Busy(UserError):
    """So much waits already that nothing more is taken in."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. The defaults always take the likeliest.

    temperature: 0 takes the likeliest, 1 is as trained. top_k: choose among this many (0: all). top_p: among the fewest
    that have this probability together (1: all; arXiv 1904.09751). min_p: among those that have at least this share of
    the likeliest one's probability (0: all; arXiv 2407.01082). All three act on the probabilities at that temperature.
    repetition_penalty: divides the positive and multiplies the negative scores of tokens that are in prompt or reply (1:
    leaves them; arXiv 1909.05858). frequency_penalty and presence_penalty are subtracted from a token's score for every
    time, and once if, it is in the reply (0: leaves them).

    The same seed gives the same reply, alone or in any batch. `max_tokens` counts what the model says itself, tool
    calls included; a prompt and its reply never exceed the model's context either. A reply ends before the first of
    the `stop` texts that it would contain. `alternatives` likeliest tokens are told for every chosen one (0 to 20).
    `grammar` (see `constraint.py`) is what the reply must be; with `strict`, every call is one of a tool that is
    there, with arguments of its schema.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 200
    seed: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    alternatives: int = 0
    grammar: str = ""
    strict: bool = False

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature is {self.temperature}; expected 0 (the likeliest) or more; 1 is as trained.")
        if self.top_k < 0:
            raise UserError(f"top_k is {self.top_k}; expected 0 (no limit) or the number of tokens to choose from.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; expected a probability above 0 and at most 1 (no limit).")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"min_p is {self.min_p}; expected 0 (no limit) to 1 (the likeliest alone).")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}; expected at least 1.")
        least, most = REPETITION
        if not least <= self.repetition_penalty <= most:
            raise UserError(f"repetition_penalty is {self.repetition_penalty}; expected {least} to {most}; 1 changes nothing.")
        for name in ("frequency_penalty", "presence_penalty"):
            if not -2 <= getattr(self, name) <= 2:
                raise UserError(f"{name} is {getattr(self, name)}; expected -2 to 2; 0 changes nothing.")
        if len(self.stop) > MOST_STOPS or not all(0 < len(s) <= LONGEST_STOP for s in self.stop):
            raise UserError(f"stop: expected at most {MOST_STOPS} texts of 1 to {LONGEST_STOP} characters.")
        if not 0 <= self.alternatives <= MOST_ALTERNATIVES:
            raise UserError(f"alternatives is {self.alternatives}; expected 0 to {MOST_ALTERNATIVES}.")


@dataclass(frozen=True, slots=True)
class Tool:
    """`run` takes the call's arguments by name and returns text; `parameters` is their JSON schema (an object). An
    exception becomes the result 'Error: ...'. Without `run` it is the caller's own: a reply ends with a call of it.
    A `slow` tool is run beside the engine, while the other conversations go on."""

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[..., str] | None = None
    slow: bool = False


Toolbox = dict[str, Tool]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to go on with; or, instead of messages, a plain text to go on with, as a document.

    `tools` are the names of those in the engine's toolbox that the reply may call, `own` further tools, which the caller
    runs. `call` is 'auto', 'required' (the reply is a call), or the name of the tool that the reply must call.
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[str, ...] = ()
    text: str | None = None
    own: tuple[Tool, ...] = ()
    call: str = "auto"

    def __post_init__(self) -> None:
        if self.text is None and not self.messages:
            raise UserError("the prompt is empty; expected at least one message, or a text to go on with.")
        if self.text is not None and (self.messages or self.names):
            raise UserError("the prompt has a text besides messages or tools; give one or the other.")
        if len(set(self.names)) < len(self.names):
            raise UserError(f"two tools have one name ({', '.join(self.names)}); give each its own.")
        if self.call != "auto" and (not self.names or self.call not in ("required", *self.names)):
            there = ", ".join(self.names) or "none"
            raise UserError(f"the reply must call {self.call!r}; expected auto, required or one of its tools: {there}.")

    @property
    def names(self) -> tuple[str, ...]:
        """All tools that the reply may call."""
        return (*self.tools, *(tool.name for tool in self.own))


@dataclass(frozen=True, slots=True)
class Token:
    """A chosen token: its id, its log-probability in nats under the model's own distribution (at temperature 1, nothing
    filtered or forbidden), and the likeliest ones there, each with its own."""

    id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply.

    `ids` is all that followed the prompt; `sampled` tells which of them the model chose (the others are tool results
    and headers, placed by the engine); `logprobs` are theirs in nats under the model's own distribution, that is at
    temperature 1 with nothing filtered or forbidden, and 0 for placed ones. All three are equally long. `messages` are
    the same as messages, cut before a stop text. `alternatives` are those of the chosen tokens, in turn, if asked for.

    `finish` says why it ended: 'stop' (the model ended it, or a stop text), 'call' (it calls a tool of the caller's),
    'length' (max_tokens), 'context' (the model reads no more). `cached` tokens of the prompt were known from earlier.
    """

    prompt_ids: list[int]
    ids: list[int]
    sampled: list[bool]
    logprobs: list[float]
    messages: tuple[Message, ...]
    finish: str
    alternatives: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    cached: int = 0

    @property
    def text(self) -> str:
        """The text of the last assistant message."""
        return next((m.content for m in reversed(self.messages) if m.role == "assistant"), "")


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of the reply to request `number` that is being written. `kind` says which field counts: 'text' (`text`,
    and the `tokens` that it took, which a character may share), 'call' (`call`; None for a malformed one, which `text`
    spells), 'result' (`text`: what the tool answered), at last 'done' (`completion`)."""

    kind: str
    text: str = ""
    call: ToolCall | None = None
    completion: Completion | None = None
    tokens: tuple[Token, ...] = ()
    number: int = 0
