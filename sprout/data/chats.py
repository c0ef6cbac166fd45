"""Conversations from the user's own files, in the usual forms, by the rules of `local.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sprout.common.errors import UserError
from sprout.common.hashing import split_of
from sprout.common.messages import ROLES, Message
from sprout.data.local import CHAT_KINDS, Border, each_file, is_unicode, json_lines, read_utf8


def local_conversations(names: Sequence[str], border: Border) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """(split, messages) of all conversations in the files."""
    found = 0
    for name in names:
        if not Path(name).exists():
            raise UserError(
                f"there is no file or folder {name}; --chat expects .jsonl or .json files of conversations."
            )
        for where, row in each_file(name, CHAT_KINDS, border, chat_rows):
            messages = conversation_of(row)
            if messages is None:
                border.skip("no_conversation", where, '{"messages": [{"role", "content"}, ...]}')
            elif not alternates(messages):
                border.skip("not_alternating", where, "an optional system message, then user and assistant in turn")
            elif not is_unicode(text := json.dumps([m.to_dict() for m in messages], ensure_ascii=False)):
                border.skip("half_a_character", where, "whole ones: a \\ud800 to \\udfff by itself is none")
            else:
                found += 1
                for _ in range(calls_in(row) - sum(m.call is not None for m in messages)):
                    border.count("tool_call_without_result")
                yield split_of(text), messages
    if names and not found:
        raise UserError(
            f"no conversation could be read from {', '.join(names)} ({border.dropped or 'nothing found'}); see README for the formats."
        )


def chat_rows(path: Path, border: Border) -> Iterator[tuple[str, Any]]:
    """The entries of a file of conversations, with their places."""
    if path.suffix.lower() == ".jsonl":
        yield from json_lines(path, border)
        return
    try:
        rows = json.loads(read_utf8(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise UserError(f"{path} holds a {type(rows).__name__}; expected a list of conversations.")
    yield from ((f"{path} entry {i}", row) for i, row in enumerate(rows, 1))


def conversation_of(row: Any) -> tuple[Message, ...] | None:
    """A row in one of the usual forms as messages: {"messages"}, a bare list, ShareGPT's {"conversations"}, Alpaca's
    {"instruction", "input", "output"}, {"prompt", "response"}, {"question", "answer"}, self-instruct's {"instruction",
    "instances"} (the first), Open-Assistant's {"prompt": tree} (the best-ranked replies); None for anything else."""
    if isinstance(row, list):
        return turns(row)
    if not isinstance(row, dict):
        return None
    if isinstance(row.get("messages"), list):
        return turns(row["messages"])
    if isinstance(row.get("conversations"), list):
        names = {"human": "user", "gpt": "assistant"}
        said = [m for m in row["conversations"] if isinstance(m, dict)]
        return turns([{"role": names.get(str(m.get("from")), m.get("from")), "content": m.get("value")} for m in said])
    if isinstance(row.get("prompt"), dict):
        return best_branch(row["prompt"])
    if isinstance(row.get("instances"), list) and row["instances"] and isinstance(row["instances"][0], dict):
        row = {"instruction": row.get("instruction"), **row["instances"][0]}
    for asked, replied in (("instruction", "output"), ("prompt", "response"), ("question", "answer")):
        if isinstance(row.get(asked), str) and isinstance(row.get(replied), str):
            more = f"\n{row['input']}" if isinstance(row.get("input"), str) and row["input"] else ""
            return Message("user", row[asked] + more), Message("assistant", row[replied])
    return None


def turns(row: list[Any]) -> tuple[Message, ...] | None:
    """A list of {"role", "content"} as messages. A tool call is kept where its result is the next message; without one
    (or with several at once) the message is plain talk."""
    messages = []
    for i, m in enumerate(row):
        if not isinstance(m, dict) or m.get("role") not in ROLES or not isinstance(m.get("content") or "", str):
            return None
        answered = i + 1 < len(row) and isinstance(row[i + 1], dict) and row[i + 1].get("role") == "tool"
        calls = m.get("tool_calls")
        keep = answered and isinstance(calls, list) and len(calls) == 1
        try:
            messages.append(Message.from_dict(m if keep else {**m, "tool_calls": None}))
        except (ValueError, KeyError, TypeError, IndexError):
            return None
    return tuple(messages) or None


def calls_in(row: Any) -> int:
    """How many messages of a row call tools."""
    said = row.get("messages") if isinstance(row, dict) else row
    return sum(isinstance(m, dict) and bool(m.get("tool_calls")) for m in said) if isinstance(said, list) else 0


def best_branch(node: dict[str, Any]) -> tuple[Message, ...] | None:
    """A tree of messages down its best-ranked replies (rank 0 is the best), as far as the last that an assistant gave."""
    path: list[Message] = []
    while True:
        role = {"prompter": "user", "assistant": "assistant"}.get(str(node.get("role")))
        if role is None or not isinstance(node.get("text"), str):
            return None
        path.append(Message(role, node["text"]))
        replies = [r for r in node.get("replies") or [] if isinstance(r, dict)]
        if not replies:
            break
        node = min(replies, key=lambda r: r["rank"] if isinstance(r.get("rank"), int) else len(replies))
    return tuple(path[:-1] if path[-1].role == "user" else path) or None


FOLLOWS = {
    "": ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",),
    "call": ("tool",), "tool": ("assistant",),
}  # fmt: skip


def alternates(messages: Sequence[Message]) -> bool:
    """Whether user and assistant speak in turn, after an optional system message, a tool after each call, and the
    assistant speaks at all."""
    before = ""
    for message in messages:
        if message.role not in FOLLOWS[before]:
            return False
        before = "call" if message.call else message.role
    return any(m.role == "assistant" for m in messages)
