"""From a request to what the engine is asked: prompts, sampling, tools."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall
from sprout.engine import Engine, Prompt, Sampling, Tool, TooLong, json_grammar, json_object_grammar
from sprout.engine.rows import Request
from sprout.serve.errors import ApiError
from sprout.serve.models import ON_REQUEST
from sprout.serve.schema import (
    AllowedTools,
    AnyMessage,
    AssistantMessage,
    ChatRequest,
    CompletionRequest,
    FunctionTool,
    NamedTool,
    ObjectFormat,
    RefusalPart,
    SchemaFormat,
    SystemMessage,
    TextPart,
    ToolMessage,
)  # fmt: skip

NO_ARGUMENTS = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Task:
    """What the engine is asked: `prompts` times `n` replies. `loose`: if the tools' schemas can't be kept to, a reply may
    call them without."""

    prompts: tuple[Prompt, ...]
    sampling: Sampling
    n: int
    loose: bool = False

    def prepare(self, engine: Engine) -> list[Request]:
        """Requests for the scheduler, the choices of the first prompt first. Raises UserError, TooLong."""
        for prompt in self.prompts:
            check_length(engine, prompt)
        sampling = self.sampling
        try:
            first = engine.prepare(self.prompts[0], sampling)
        except TooLong:
            raise
        except UserError:
            if not self.loose:
                raise
            sampling = replace(sampling, strict=False)
            first = engine.prepare(self.prompts[0], sampling)
        out: list[Request] = []
        for number, prompt in enumerate(self.prompts):
            read = engine.prepare(prompt, sampling) if number else first
            for _ in range(self.n):  # a prompt is read once for all of its choices
                seeded = replace(sampling, seed=(sampling.seed + len(out)) % 2**63)
                out.append(replace(read, sampling=seeded, messages=[], alternatives=[]))
        return out


def check_length(engine: Engine, prompt: Prompt) -> None:
    """Raise TooLong, without the work of cutting it into tokens, for what can't fit however long its tokens are."""
    size = sum(len(m.content.encode()) for m in prompt.messages) + len((prompt.text or "").encode())
    least = size // max(map(len, engine.tokenizer.tokens))
    if least >= engine.model.config.context:
        raise TooLong("the prompt, at the least,", least, engine.model.config.context)


def sampling_of(body: ChatRequest | CompletionRequest, **other: object) -> Sampling:
    """How to choose tokens; a seed is drawn where none is given."""
    seed = secrets.randbits(63) if body.seed is None else body.seed % 2**63
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    temperature = 1.0 if body.temperature is None else body.temperature
    return Sampling(
        temperature=temperature, top_k=body.top_k or 0, min_p=body.min_p or 0.0, seed=seed, stop=stop,
        top_p=max(1.0 if body.top_p is None else body.top_p, 1e-9),  # 0, which OpenAI's API knows, leaves the likeliest
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        frequency_penalty=body.frequency_penalty or 0.0, presence_penalty=body.presence_penalty or 0.0,
        **other,  # type: ignore[arg-type]
    )  # fmt: skip


def completion_task(body: CompletionRequest, engine: Engine) -> Task:
    """What a request for plain texts asks."""
    texts = [body.prompt or ""] if isinstance(body.prompt, str) or body.prompt is None else body.prompt
    sampling = sampling_of(body, max_tokens=body.max_tokens or 16, alternatives=body.logprobs or 0)
    return Task(tuple(Prompt(text=text) for text in texts), sampling, body.n or 1)


def chat_task(body: ChatRequest, engine: Engine) -> Task:
    """What a request for a chat asks. Raises ApiError or UserError for what can't be done."""
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs to be true", "invalid_value", "top_logprobs")
    tools, call = chosen_tools(body)
    house = () if body.tool_choice == "none" else house_tools(body.house_tools, engine)
    own = tuple(
        Tool(t.function.name, t.function.description or "", t.function.parameters or NO_ARGUMENTS) for t in tools
    )
    if call not in ("auto", "required", *(tool.name for tool in own), *house) or (
        call != "auto" and not (own or house)
    ):
        raise ApiError(400, f"tool_choice asks for {call!r}, and no such tool is there", "invalid_value", "tool_choice")
    limits = [m for m in (body.max_tokens, body.max_completion_tokens) if m is not None]
    sampling = sampling_of(
        body,
        max_tokens=min(limits, default=engine.model.config.context),
        alternatives=(body.top_logprobs or 0) if body.logprobs else 0,
        grammar=grammar_of(body),
        strict=bool(own),
    )
    prompt = Prompt(tuple(conversation(body.messages)), house, own=own, call=call)
    loose = call == "auto" and not any(t.function.strict for t in tools)
    return Task((prompt,), sampling, body.n or 1, loose)


def chosen_tools(body: ChatRequest) -> tuple[list[FunctionTool], str]:
    """The caller's tools that may be called, and which has to be: 'auto', 'required' or a name."""
    tools, choice = body.tools or [], body.tool_choice
    if choice == "none":
        return [], "auto"
    if isinstance(choice, NamedTool):
        return tools, choice.function.name
    if isinstance(choice, AllowedTools):
        names = {tool.function.name for tool in choice.allowed_tools.tools}
        return [t for t in tools if t.function.name in names], choice.allowed_tools.mode
    return tools, choice or "auto"


def house_tools(asked: bool | list[str] | None, engine: Engine) -> tuple[str, ...]:
    """The names of the server's own tools that were asked for, True being all that models know how to use. Raises
    ApiError for an unknown one."""
    if asked is True:
        return tuple(name for name in engine.toolbox if name not in ON_REQUEST)
    names = list(dict.fromkeys(asked or []))
    for name in names:
        if name not in engine.toolbox:
            there = ", ".join(engine.toolbox) or "none"
            raise ApiError(400, f"there is no house tool {name!r}; there are: {there}", "invalid_value", "house_tools")
    return tuple(names)


def grammar_of(body: ChatRequest) -> str:
    """What the reply must be. Raises ApiError for a schema that can't be kept to."""
    asked = body.response_format
    try:
        if isinstance(asked, ObjectFormat):
            return json_object_grammar()
        if isinstance(asked, SchemaFormat):
            schema = asked.json_schema.schema_
            return json_object_grammar() if schema is None else json_grammar(schema)
    except UserError as error:
        raise ApiError(400, str(error), "invalid_value", "response_format") from error
    return ""


def text_of(content: str | Sequence[TextPart | RefusalPart] | None) -> str:
    """A content, whole or in parts, as one text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in content)


def conversation(messages: Sequence[AnyMessage]) -> list[Message]:
    """The messages as the model knows them: one call a message, its result behind it.

    Raises ApiError for a result without a call and a call without a result. A result may also follow a message that has
    no call: that is one of ours whose malformed call stands in its text.
    """
    out: list[Message] = []
    open_calls: dict[str, ToolCall] = {}  # not answered yet
    said, was_reply = (
        "",
        False,
    )  # by the assistant in front of its calls; whether the message before was its, or a result
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        if isinstance(message, ToolMessage):
            call = open_calls.pop(message.tool_call_id, None)
            if call is not None:
                out += [Message("assistant", said, call), Message("tool", text_of(message.content))]
                said = ""
            elif was_reply and not open_calls and out and out[-1].call is None and out[-1].role == "assistant":
                out.append(Message("tool", text_of(message.content)))
            else:
                raise ApiError(400, f"{where} answers no call of the message before it", "invalid_value", where)
            continue
        check_answered(open_calls, where)
        was_reply = isinstance(message, AssistantMessage)
        if isinstance(message, AssistantMessage):
            said = text_of(message.content) or message.refusal or ""
            calls = message.tool_calls or []
            open_calls = {c.id: ToolCall(c.function.name, c.function.arguments) for c in calls}
            if len(open_calls) < len(calls):
                raise ApiError(400, f"{where}: two calls have the same id", "invalid_value", where)
            if not calls:
                out.append(Message("assistant", said))
        else:
            role = "system" if isinstance(message, SystemMessage) else "user"
            out.append(Message(role, text_of(message.content)))
    check_answered(open_calls, "messages")
    return out


def check_answered(calls: dict[str, ToolCall], where: str) -> None:
    """Raise ApiError if a call has no result."""
    if calls:
        name = next(iter(calls))[:80]
        raise ApiError(
            400,
            f"{where}: the call {name!r} must be followed by a tool message with its result",
            "invalid_value",
            where,
        )
