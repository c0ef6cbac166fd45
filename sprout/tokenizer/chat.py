"""The chat format: messages as token ids, and back.

A conversation is <|endoftext|>, then each message as <|role|> content <|end|>. An assistant's tool call stands behind
its content: <|call|>name {"argument": ...}. Which tools may be called is the last line of the system message. Control
tokens are placed here alone: whatever a message's text says is encoded as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sprout.common.messages import Message, ToolCall
from sprout.tokenizer.tokenizer import Tokenizer


def with_tools(messages: Sequence[Message], tools: Sequence[str]) -> list[Message]:
    """The messages with the names of the tools written into the system message."""
    if not tools:
        return list(messages)
    line = "Tools: " + ", ".join(tools)
    if messages and messages[0].role == "system" and messages[0].content:
        return [Message("system", messages[0].content + "\n" + line), *messages[1:]]
    return [Message("system", line), *(messages[1:] if messages and messages[0].role == "system" else messages)]


def render(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[str] = ()
) -> tuple[list[int], list[bool]]:
    """Ids of a conversation and the loss mask: True for what the assistant says, its <|end|> included."""
    special = tokenizer.specials
    ids, mask = [special["<|endoftext|>"]], [False]
    for message in with_tools(messages, tools):
        said = tokenizer.encode(message.content)
        if message.call:
            said += [special["<|call|>"], *tokenizer.encode(f"{message.call.name} {message.call.arguments}")]
        ids += [special[f"<|{message.role}|>"], *said, special["<|end|>"]]
        mask += [False, *[message.role == "assistant"] * (len(said) + 1)]
    return ids, mask


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[str] = ()) -> list[int]:
    """Ids of a conversation that the assistant is to continue."""
    return [*render(tokenizer, messages, tools)[0], tokenizer.specials["<|assistant|>"]]


def parse_assistant(tokenizer: Tokenizer, ids: Sequence[int]) -> Message:
    """The message that an assistant's ids (without header and <|end|>) spell. A call that isn't a name and a JSON
    object stays in the text."""
    call_id = tokenizer.specials["<|call|>"]
    ids = list(ids)
    if call_id in ids:
        at = ids.index(call_id)
        name, _, arguments = tokenizer.decode(ids[at + 1 :]).partition(" ")
        try:
            if isinstance(json.loads(arguments), dict):
                return Message("assistant", tokenizer.decode(ids[:at]), ToolCall(name, arguments))
        except (ValueError, RecursionError):
            pass
    return Message("assistant", tokenizer.decode(ids))
