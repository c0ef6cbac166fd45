"""A model behind a URL: any server that speaks OpenAI's API, in the place of an engine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import openai

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall
from sprout.engine import Completion, Event, Prompt, Sampling, TooLong

FINISH = {"stop": "stop", "length": "length", "tool_calls": "call", "content_filter": "stop"}
UNKNOWN = 1 << 30  # tokens of room where only the server knows


class Remote:
    """One model of a server. `context` is 0 where the server doesn't say, `toolbox` names the tools that it
    runs itself."""

    def __init__(self, url: str, model: str = "", key: str = "") -> None:
        """Ask the server for its models and take the one named, or the first. Raises UserError if there is none."""
        if not url.startswith(("http://", "https://")):
            raise UserError(f"the address is {url!r}; expected one like http://127.0.0.1:8000.")
        base = url.rstrip("/")
        self.url = base if re.search(r"/v\d+$", base) else base + "/v1"
        self.client = openai.OpenAI(base_url=self.url, api_key=key or "none", max_retries=1, timeout=120)
        models = list(self._asked(lambda: self.client.models.list().data))
        names = [m.id for m in models]
        if not names or (model and model not in names):
            there = ", ".join(names[:20]) or "none"
            raise UserError(f"{self.url} has no model {model or 'at all'}; expected one of: {there}.")
        chosen = models[names.index(model) if model else 0]
        ours = (chosen.model_extra or {}).get("sprout") or {}
        self.model, self.ours, self.context = chosen.id, bool(ours), int(ours.get("context") or 0)
        self.toolbox = tuple(t["name"] for t in ours.get("tools") or () if t.get("default"))

    def room(self, prompt: Prompt) -> int:
        """Tokens that a reply can have: only the server knows, and says so when it answers (`TooLong`)."""
        return UNKNOWN

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Event]:
        """One reply as it comes. Raises TooLong for a conversation over the model's context, UserError for whatever else
        goes wrong at the server or on the way."""
        extra: dict[str, Any] = {"house_tools": list(prompt.tools)} if self.ours and prompt.tools else {}
        stream: Any = self._asked(
            lambda: self.client.chat.completions.create(
                model=self.model, messages=plain(prompt.messages), stream=True,  # type: ignore[arg-type]
                temperature=sampling.temperature, max_tokens=sampling.max_tokens, seed=sampling.seed % 2**62, extra_body=extra,
            )
        )  # fmt: skip
        return self._events(stream)

    def _events(self, stream: Any) -> Iterator[Event]:
        messages: list[Message] = []
        said, finish = "", "stop"
        call: ToolCall | None = None
        try:
            chunks = iter(stream)
            while (chunk := self._asked(lambda: next(chunks, None))) is not None:
                ours = (chunk.model_extra or {}).get("sprout") or {}
                if "call" in ours:
                    call = ToolCall(ours["call"]["name"], ours["call"]["arguments"]) if ours["call"] else None
                    raw = str(ours.get("raw") or "")
                    messages.append(Message("assistant", said if call else f"{said}<|call|>{raw}", call))
                    said = ""
                    yield Event("call", raw, call)
                if "result" in ours:
                    messages.append(Message("tool", str(ours["result"])))
                    yield Event("result", str(ours["result"]))
                for choice in chunk.choices:
                    if choice.delta.content:
                        said += choice.delta.content
                        yield Event("text", choice.delta.content)
                    if choice.finish_reason:
                        finish = str(ours.get("finish") or FINISH.get(choice.finish_reason, "stop"))
        finally:
            stream.close()
        messages.append(Message("assistant", said))
        yield Event("done", completion=Completion([], [], [], [], tuple(messages), finish))

    def _asked(self, ask: Any) -> Any:
        """What the server answers, or an error for people."""
        try:
            return ask()
        except (openai.APIConnectionError, httpx.HTTPError) as error:  # the latter where a stream breaks off
            raise UserError(f"nobody answers at {self.url} ({error}); is it running? Ours starts with: sprout serve") from error
        except openai.APIStatusError as error:
            if error.code == "context_length_exceeded":
                raise TooLong.told(f"{self.url}: {error.message}") from error
            if error.status_code == 401:
                raise UserError(f"{self.url} wants another key; give --api-key or set SPROUT_API_KEY.") from error
            raise UserError(f"{self.url} answers {error.status_code}: {error.message}") from error
        except openai.OpenAIError as error:
            raise UserError(f"{self.url}: {error}") from error


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the API wants them. A result names the call it answers, which stands in the message before; a call
    without a result, where a reply broke off, is left out, since a server refuses the whole conversation for it."""
    out: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        answered = i + 1 < len(messages) and messages[i + 1].role == "tool"
        told: dict[str, Any] = message.to_dict() if answered else {"role": message.role, "content": message.content}
        if message.role == "tool":
            told["tool_call_id"] = f"call_{i - 1}"
        for call in told.get("tool_calls") or ():
            call["id"] = f"call_{i}"
        out.append(told)
    return out
