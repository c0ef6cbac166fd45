"""What is known about a conversation while it is being written: what was asked, and where its row is.

All that is known about a row is one record of a structured array, so that a step works on whole columns and moving a
row is one assignment. A row's `ids` are prompt and reply together; of these the cache has `seen`, `length` are there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sprout.common.messages import Message, ToolCall
from sprout.engine.constraint import Guide
from sprout.engine.types import Completion, Prompt, Sampling
from sprout.engine.writer import Writer

CALLABLE, DOCUMENT = 1, 2  # added up, a row's kind
SETTINGS = ("temperature", "top_k", "top_p", "min_p")


@dataclass(slots=True)
class Request:
    """What is asked of a row, and the messages written so far."""

    prompt: Prompt
    prompt_ids: list[int]
    sampling: Sampling
    form: Guide | None = None  # of the reply's text, at its beginning
    calls: Guide | None = None  # of a call, at its beginning
    number: int = 0
    messages: list[Message] = field(default_factory=list)
    guide: Guide | None = None  # of what is being written now
    writer: Writer | None = None  # where somebody reads along, or a stop text may come
    alternatives: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    cached: int = 0
    away: np.ndarray | None = None  # the row's record while a slow tool works
    stuck: bool = False  # its grammar leaves nothing

    def own(self, call: ToolCall | None) -> bool:
        """Whether the caller has to run it."""
        return call is not None and any(tool.name == call.name for tool in self.prompt.own)


def row_type(context: int) -> np.dtype:
    """What is known about a row."""
    return np.dtype(
        [
            ("ids", np.int64, (context,)), ("sampled", np.bool_, (context,)), ("logprobs", np.float32, (context,)),
            ("length", np.int64),  # tokens that are there
            ("seen", np.int64),  # tokens in the cache
            ("turn", np.int64),  # where the message being written starts
            ("left", np.int64),  # tokens that the model may still choose
            ("calls", np.int64),  # tool calls so far
            ("calling", np.bool_),  # the message being written has a call
            ("kind", np.int64), ("stop", np.int64),  # what is forbidden, see Batch.masks; the id that ends a message
            ("must", np.bool_), ("guided", np.bool_), ("penalised", np.bool_),  # the next is a call; a grammar; a penalty
            ("followed", np.bool_),  # token by token, for a grammar or a reader
            ("kept", np.bool_),  # the prompt's blocks are in the prefix store
            ("temperature", np.float32), ("top_k", np.int64), ("top_p", np.float32), ("min_p", np.float32),
            ("alternatives", np.int64), ("seed", np.uint64), ("number", np.int64),
        ],
        align=True,
    )  # fmt: skip


def completion(row: np.void | np.ndarray, request: Request, finish: str) -> Completion:
    """What a row has become."""
    reply = slice(len(request.prompt_ids), int(row["length"]))
    ids, sampled, logprobs = (row[name][reply].tolist() for name in ("ids", "sampled", "logprobs"))
    return Completion(
        request.prompt_ids, ids, sampled, logprobs, tuple(request.messages), finish, request.alternatives, request.cached
    )
