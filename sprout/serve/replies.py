"""From the engine's events and completions to what the API answers: whole bodies and the chunks of a stream."""

from __future__ import annotations

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

from sprout.common.messages import Message, ToolCall
from sprout.engine import Completion, Event, Token
from sprout.tokenizer import Tokenizer

# Why a reply ended, in the API's words; what broke off, whatever broke it, is 'length' there.
REASONS = {"stop": "stop", "call": "tool_calls", "length": "length", "context": "length", "grammar": "length"}
LEAST_LOGPROB = -9999.0  # JSON has no infinity

Plain = dict[str, Any]


def spelled(tokenizer: Tokenizer, token: int) -> Plain:
    """A token's text, in which half a character is U+FFFD, and its bytes."""
    raw = tokenizer.decode_bytes([token])
    return {"id": token, "token": raw.decode("utf-8", "replace"), "bytes": list(raw)}


def sampled_tokens(completion: Completion) -> list[Token]:
    """The tokens that the model chose."""
    chosen = [(i, lp) for i, lp, s in zip(completion.ids, completion.logprobs, completion.sampled, strict=True) if s]
    told = completion.alternatives or [()] * len(chosen)
    return [Token(i, lp, alternatives) for (i, lp), alternatives in zip(chosen, told, strict=False)]


def usage(completions: Sequence[Completion], n: int) -> Plain:
    """Tokens read and chosen; a prompt counts once, however many replies it got."""
    read = sum(len(c.prompt_ids) for c in completions) // n
    written = sum(sum(c.sampled) for c in completions)
    details = {"cached_tokens": min(read, sum(c.cached for c in completions[::n]))}
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": details,
    }


def api_messages(messages: Sequence[Message]) -> list[Plain]:
    """Messages that can be sent back as they are: a result names the call that it answers."""
    out: list[Plain] = []
    last = ""
    for message in messages:
        plain: Plain = {"role": message.role, "content": message.content}
        if message.call:
            plain["tool_calls"] = [tool_call(message.call)]
            last = plain["tool_calls"][0]["id"]
        elif message.role == "tool":
            plain["tool_call_id"] = last or "call_malformed"
        else:
            last = ""
        out.append(plain)
    return out


def tool_call(call: ToolCall) -> Plain:
    """A call under a name of its own."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function}


class Answer(ABC):
    """One answer, whole or in chunks. `begun` is when the request came (time.perf_counter, seconds); `n` the replies
    to each prompt, `own` the names of the caller's tools, `logprobs` whether tokens are told."""

    prefix, whole, part = "", "", ""  # of ids; the kinds of objects

    def __init__(
        self, model: str, tokenizer: Tokenizer, begun: float, n: int = 1, logprobs: bool = False,
        with_usage: bool = False, own: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.begun, self.n, self.logprobs = model, tokenizer, begun, n, logprobs
        self.with_usage, self.own = with_usage, own
        self.id, self.created = f"{self.prefix}-{secrets.token_hex(12)}", int(time.time())
        self.done: dict[int, Completion] = {}
        self.first: dict[int, float] = {}  # when a choice's first piece came

    def head(self, kind: str) -> Plain:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def chunk(self, choices: list[Plain], **more: Any) -> Plain:
        """A piece of the stream."""
        return {**self.head(self.part), "choices": choices, **({"usage": None} if self.with_usage else {}), **more}

    def body(self, times: dict[int, float]) -> Plain:
        """The whole answer; `times` is when each choice ended."""
        order = [self.done[i] for i in range(len(self.done))]
        choices = [self.choice(i, c) for i, c in enumerate(order)]
        own = [
            {"index": i, **self.figures(i, c, times[i]), "messages": api_messages(c.messages)}
            for i, c in enumerate(order)
        ]
        sprout = {"messages": own[0]["messages"], "choices": own}
        return {**self.head(self.whole), "choices": choices, "usage": usage(order, self.n), "sprout": sprout}

    def figures(self, index: int, completion: Completion, at: float) -> Plain:
        """How the reply went: times in seconds since the request came."""
        tokens, seconds = sum(completion.sampled), max(at - self.begun, 1e-6)
        told = {"finish": completion.finish, "tokens": tokens, "seconds": round(seconds, 4)}
        if index in self.first:
            told["first_seconds"] = round(self.first[index] - self.begun, 4)
        return told | {"tokens_per_s": round(tokens / seconds, 1)}

    def events(self, index: int, event: Event, at: float) -> list[Plain]:
        """The chunks that an event of a choice makes."""
        self.first.setdefault(index, at)
        if event.completion is not None:
            self.done[index] = event.completion
            return [self.last(index, event.completion, at)]
        return self.pieces(index, event)

    def end(self) -> list[Plain]:
        """What comes behind the last choice."""
        if not self.with_usage:
            return []
        return [self.chunk([]) | {"usage": usage([self.done[i] for i in sorted(self.done)], self.n)}]

    def begin(self) -> list[Plain]:
        """What a stream begins with."""
        return []

    @abstractmethod
    def choice(self, index: int, completion: Completion) -> Plain:
        """A choice of a whole answer."""

    @abstractmethod
    def pieces(self, index: int, event: Event) -> list[Plain]:
        """The chunks of an event that isn't the last."""

    @abstractmethod
    def last(self, index: int, completion: Completion, at: float) -> Plain:
        """The chunk that ends a choice."""


class ChatAnswer(Answer):
    """Of /v1/chat/completions."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, completion: Completion) -> Plain:
        said = next((m for m in reversed(completion.messages) if m.role == "assistant"), Message("assistant", ""))
        text = said.content.partition("<|call|>")[0] if self._broken_call(completion) else said.content
        message: Plain = {"role": "assistant", "content": text, "refusal": None}
        if completion.finish == "call" and said.call:
            message |= {"content": said.content or None, "tool_calls": [tool_call(said.call)]}
        logprobs = self._logprobs(sampled_tokens(completion)) if self.logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": REASONS[completion.finish]}

    def _broken_call(self, completion: Completion) -> bool:
        """Whether the last message has a call that isn't one, which then stands in its text."""
        last = len(completion.sampled) - 1
        while last >= 0 and completion.sampled[last]:
            last -= 1
        called = self.tokenizer.specials["<|call|>"] in completion.ids[last + 1 :]
        return called and completion.messages[-1].role == "assistant" and completion.messages[-1].call is None

    def begin(self) -> list[Plain]:
        return [self._delta(i, {"role": "assistant", "content": "", "refusal": None}) for i in range(self.n)]

    def pieces(self, index: int, event: Event) -> list[Plain]:
        logprobs = self._logprobs(event.tokens) if self.logprobs and event.tokens else None
        if event.kind == "text":
            return [self._delta(index, {"content": event.text}, logprobs)] if event.text or logprobs else []
        if event.kind == "result":
            return [self._delta(index, {}, sprout={"index": index, "result": event.text})]
        if event.call is None:
            return [self._delta(index, {}, logprobs, sprout={"index": index, "call": None, "raw": event.text})]
        if event.call.name in self.own:
            return [self._delta(index, {"tool_calls": [{"index": 0, **tool_call(event.call)}]}, logprobs)]
        call = {"name": event.call.name, "arguments": event.call.arguments}
        return [self._delta(index, {}, logprobs, sprout={"index": index, "call": call})]

    def last(self, index: int, completion: Completion, at: float) -> Plain:
        figures = {"index": index, **self.figures(index, completion, at)}
        return self._delta(index, {}, reason=REASONS[completion.finish], sprout=figures)

    def _delta(
        self, index: int, delta: Plain, logprobs: Plain | None = None, reason: str | None = None, **more: Any
    ) -> Plain:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self.chunk([choice], **more)

    def _logprobs(self, tokens: Sequence[Token]) -> Plain:
        return {"content": [self._token(token) for token in tokens], "refusal": None}

    def _token(self, token: Token) -> Plain:
        others = [self._one(i, logprob) for i, logprob in token.alternatives]
        return {**self._one(token.id, token.logprob), "top_logprobs": others}

    def _one(self, token: int, logprob: float) -> Plain:
        return {**spelled(self.tokenizer, token), "logprob": max(logprob, LEAST_LOGPROB)}


class TextAnswer(Answer):
    """Of /v1/completions."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    def choice(self, index: int, completion: Completion) -> Plain:
        logprobs = self._logprobs(sampled_tokens(completion), 0)[0] if self.logprobs else None
        return self._choice(index, completion.text, logprobs, REASONS[completion.finish])

    def pieces(self, index: int, event: Event) -> list[Plain]:
        logprobs = None
        if self.logprobs and event.tokens:
            logprobs, self.offsets[index] = self._logprobs(event.tokens, self.offsets.get(index, 0))
        if not event.text and logprobs is None:
            return []
        return [self.chunk([self._choice(index, event.text, logprobs, None)])]

    def last(self, index: int, completion: Completion, at: float) -> Plain:
        figures = {"index": index, **self.figures(index, completion, at)}
        return self.chunk([self._choice(index, "", None, REASONS[completion.finish])], sprout=figures)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.offsets: dict[int, int] = {}  # characters of each choice told so far

    def _choice(self, index: int, text: str, logprobs: Plain | None, reason: str | None) -> Plain:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, tokens: Sequence[Token], offset: int) -> tuple[Plain, int]:
        """The old form: four lists of equal length; and where the next token begins."""
        names = [spelled(self.tokenizer, token.id)["token"] for token in tokens]
        offsets = []
        for name in names:
            offsets.append(offset)
            offset += len(name)
        top = [
            {spelled(self.tokenizer, i)["token"]: max(lp, LEAST_LOGPROB) for i, lp in t.alternatives} for t in tokens
        ]
        told = {"tokens": names, "token_logprobs": [max(t.logprob, LEAST_LOGPROB) for t in tokens]}
        return {**told, "top_logprobs": top, "text_offset": offsets}, offset


def line(plain: Plain) -> bytes:
    """An event of a stream."""
    return b"data: " + json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
