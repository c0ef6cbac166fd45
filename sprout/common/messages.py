"""What a conversation is: messages, and the tool calls inside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A request to run the tool `name` with `arguments`, a JSON object kept as canonical JSON text."""

    name: str
    arguments: str  # '{"expression": "12 + 30"}'

    @classmethod
    def of(cls, tool: str, /, **arguments: Any) -> ToolCall:
        return cls(tool, json.dumps(arguments, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. An assistant message may end in at most one tool call; the tool's result is the next message."""

    role: str
    content: str
    call: ToolCall | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is unknown; expected one of {', '.join(ROLES)}")
        if self.call is not None and self.role != "assistant":
            raise ValueError(f"only an assistant message may call a tool, not a {self.role} message")

    def to_dict(self) -> dict[str, Any]:
        """The OpenAI / Hugging Face `messages` form."""
        plain: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.call:
            function = {"name": self.call.name, "arguments": self.call.arguments}
            plain["tool_calls"] = [{"id": "call_0", "type": "function", "function": function}]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Message:
        call = None
        if plain.get("tool_calls"):
            function = plain["tool_calls"][0]["function"]
            arguments = function["arguments"]
            call = ToolCall(function["name"], arguments if isinstance(arguments, str) else json.dumps(arguments))
        return cls(plain["role"], plain.get("content") or "", call)
