"""What is answered, as the API document describes it. `replies.py` makes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Finish = Literal["stop", "length", "tool_calls"]


class ErrorObject(BaseModel):
    """What went wrong; `param` is the field, `code` a name that a program can rely on."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorObject


class TokenText(BaseModel):
    """A token: `bytes` is the truth, `token` has U+FFFD where these are no whole character."""

    id: int
    token: str
    bytes: list[int]
    logprob: float


class TokenLogprob(TokenText):
    """A chosen token and the likeliest there, with log-probabilities in nats."""

    top_logprobs: list[TokenText]


class Logprobs(BaseModel):
    """The tokens of a choice."""

    content: list[TokenLogprob] | None
    refusal: None


class CalledFunction(BaseModel):
    """Arguments are JSON text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call of one of the caller's tools."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ReplyMessage(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] = Field(default=[])


class ChatChoice(BaseModel):
    """One of `n` replies."""

    index: int
    message: ReplyMessage
    logprobs: Logprobs | None
    finish_reason: Finish


class PromptDetails(BaseModel):
    """Tokens of the prompt that were known from earlier."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens read and chosen."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class ChatCompletion(BaseModel):
    """The answer of /v1/chat/completions. `sprout` holds all messages of the reply, house tools' included, and times."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    sprout: dict[str, Any]


class TextLogprobs(BaseModel):
    """Four lists of equal length."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One of `n` continuations of one of the prompts."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish


class TextCompletion(BaseModel):
    """The answer of /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    sprout: dict[str, Any]


class HouseTool(BaseModel):
    """A tool that the server runs itself."""

    name: str
    description: str
    default: bool


class ModelFacts(BaseModel):
    """What a model is: its run and stage, the tokens that it reads, its size."""

    run: str
    stage: str
    context: int
    parameters: int
    tools: list[HouseTool]


class Model(BaseModel):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    sprout: ModelFacts


class ModelList(BaseModel):
    """All models, the last stage first."""

    object: Literal["list"]
    data: list[Model]


class ReadToken(BaseModel):
    """A token as it is read."""

    id: int
    text: str
    bytes: list[int]
    special: bool


class Tokens(BaseModel):
    """The tokens of a text."""

    count: int
    tokens: list[ReadToken]


class Html(BaseModel):
    """Safe HTML."""

    html: str


class Ok(BaseModel):
    """It worked."""

    ok: bool


class Health(BaseModel):
    """`working`: replies that are being answered."""

    status: Literal["ok", "draining"]
    working: int
