"""What the world gives: documents with a sidecar of truth, and problems whose replies can be checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sprout.common.messages import Message


@dataclass(frozen=True, slots=True)
class Document:
    """A text and its sidecar. `facts` are ids of the facts told, `bits` the grammar's -log2 p of the text."""

    kind: str
    text: str
    facts: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    plan: dict[str, Any] = field(default_factory=dict)
    bits: float = 0.0


@dataclass(frozen=True, slots=True)
class Problem:
    """A question to which any reply can be checked.

    `key` is the canonical problem: the same problem in other words has the same key, and its hash decides the
    split. `prompt` ends in a user message; `reply` is a right answer (assistant and tool messages). `truth` holds
    whatever `check` needs, as plain JSON values. `twin`, where present, is the same problem with one fact swapped.
    """

    skill: str
    key: str
    prompt: tuple[Message, ...]
    reply: tuple[Message, ...]
    answer: str
    tools: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    truth: dict[str, Any] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    difficulty: int = 1
    twin: Problem | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Right or wrong, why, and the index (from 0) of the first wrong step of the reply where steps can be told."""

    right: bool
    why: str = ""
    first_wrong_step: int | None = None


Reply = Sequence[Message]  # assistant and tool messages that followed a problem's prompt


def final_text(reply: Reply) -> str:
    """The text of the last assistant message, stripped; empty if there is none."""
    return next((m.content.strip() for m in reversed(reply) if m.role == "assistant"), "")
