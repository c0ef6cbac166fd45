"""What may be asked: the requests' fields, their limits, and the rule for all others.

The rule: OpenAI's fields that we have, and our own, are obeyed. A field of OpenAI's that would change the reply and that we
can't do (audio, images, logit_bias, functions of the old kind, prediction, web search, echo, ...) is refused with the code
`unsupported_parameter`, unless it asks for what happens anyway. Fields without influence on the reply (user, metadata,
store, service_tier, a message's name, ...) and fields that nobody knows are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sprout.engine.types import LONGEST_STOP, MOST_ALTERNATIVES, MOST_STOPS, REPETITION

LONGEST_TEXT = 200_000  # characters of a message or prompt
MOST_MESSAGES, MOST_PARTS, MOST_TOOLS, MOST_CHOICES, MOST_PROMPTS = 500, 100, 128, 8, 16
LONGEST_DESCRIPTION = 20_000  # characters
NAME = r"^[a-zA-Z0-9_-]{1,64}$"

# Fields that are refused, and the values that ask for nothing else than what happens anyway.
REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (), "modalities": (["text"], []), "logit_bias": ({},), "functions": ([],), "function_call": ("none",),
    "prediction": (), "web_search_options": (), "moderation": (), "verbosity": ("medium",),
    "reasoning_effort": ("none", "medium"),
}  # fmt: skip
REFUSED_COMPLETION: dict[str, tuple[Any, ...]] = {"echo": (False,), "suffix": ("",), "logit_bias": ({},), "best_of": ()}


def whole(value: Any) -> Any:
    """JSON knows one kind of number: 5.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def unsupported(param: str = "", why: str = "this server can't do that") -> PydanticCustomError:
    """The refusal of a field; `param` is its name where the place of the check is not."""
    return PydanticCustomError("unsupported_parameter", "{why}", {"param": param, "why": why})


def refuse(plain: Any, table: dict[str, tuple[Any, ...]]) -> Any:
    """Raise for the first field of the table that asks for something."""
    if isinstance(plain, dict):
        for name, neutral in table.items():
            if plain.get(name) is not None and not any(
                plain[name] == v and type(plain[name]) is type(v) for v in neutral
            ):
                raise unsupported(name)
    return plain


WHOLE = BeforeValidator(whole)  # stands behind the limits, or the document would not have them
Seed = Annotated[int, Field(ge=-9223372036854776000, le=9223372036854776000), WHOLE]  # as the API's document rounds 2^63
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Name = Annotated[str, Field(pattern=NAME)]
StopText = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class Checked(BaseModel):
    """Strict about types, as JSON is; unknown fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(Checked):
    """A piece of a message's text."""

    type: Literal["text"]
    text: Text


class RefusalPart(Checked):
    """What an assistant said instead of an answer; it is read as text."""

    type: Literal["refusal"]
    refusal: Text


def only_text(content: Any) -> Any:
    """Refuse parts that are images, sound or files."""
    if isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") in ("image_url", "input_audio", "file"):
                raise unsupported(why=f"this server reads text alone, no {part['type']}")
    return content


Parts = Annotated[list[TextPart], Field(min_length=1, max_length=MOST_PARTS)]
Content = Annotated[Text | Parts, BeforeValidator(only_text)]
AssistantParts = Annotated[
    list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]], Field(min_length=1, max_length=MOST_PARTS)
]
AssistantContent = Annotated[Text | AssistantParts, BeforeValidator(only_text)]


class SystemMessage(Checked):
    """How the assistant should behave."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(Checked):
    """What the user says."""

    role: Literal["user"]
    content: Content


class CalledFunction(Checked):
    """A tool's name and its arguments as JSON text."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    arguments: Text


class Call(Checked):
    """A call that an earlier reply made."""

    id: Annotated[str, Field(max_length=200)]
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Checked):
    """An earlier reply."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: Text | None = None
    tool_calls: Annotated[list[Call], Field(max_length=MOST_TOOLS)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, plain: Any) -> Any:
        if isinstance(plain, dict):
            for name in ("audio", "function_call"):
                if plain.get(name) is not None:
                    raise unsupported(f"messages[].{name}")
        return plain


class ToolMessage(Checked):
    """What a tool answered to a call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(max_length=200)]


def known_role(message: Any) -> Any:
    """Refuse the messages of the old function calls."""
    if isinstance(message, dict) and message.get("role") == "function":
        raise unsupported(why="functions of the old kind are not supported; use tools")
    return message


AnyMessage = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage,
    Field(discriminator="role"),
]
Messages = Annotated[
    list[Annotated[AnyMessage, BeforeValidator(known_role)]], Field(min_length=1, max_length=MOST_MESSAGES)
]


class Function(Checked):
    """A tool of the caller's: `parameters` is the JSON schema of its arguments."""

    name: Name
    description: Annotated[str, Field(max_length=LONGEST_DESCRIPTION)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Checked):
    """A tool of the caller's, as the API wraps it."""

    type: Literal["function"]
    function: Function

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, plain: Any) -> Any:
        if isinstance(plain, dict) and plain.get("type") == "custom":
            raise unsupported(why="custom tools are not supported; use functions")
        return plain


class FunctionName(Checked):
    """Which tool."""

    name: Name


class NamedTool(Checked):
    """The reply has to call this tool."""

    type: Literal["function"]
    function: FunctionName


class AllowedList(Checked):
    """Which of the tools may be called now, and whether one has to be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(max_length=MOST_TOOLS)]


class AllowedTools(Checked):
    """Some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedList


def known_choice(choice: Any) -> Any:
    """Refuse custom tools."""
    if isinstance(choice, dict) and choice.get("type") == "custom":
        raise unsupported(why="custom tools are not supported; use functions")
    return choice


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | Annotated[NamedTool | AllowedTools, Field(discriminator="type")],
    BeforeValidator(known_choice),
]


class TextFormat(Checked):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Checked):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Checked):
    """A JSON schema and its name."""

    model_config = ConfigDict(strict=True, extra="ignore", populate_by_name=True)
    name: Annotated[str, Field(max_length=64)]
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class SchemaFormat(Checked):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StreamOptions(Checked):
    """What a stream tells besides."""

    include_usage: bool | None = None


class Asked(Checked):
    """What both kinds of completions have in common."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES), WHOLE] | None = 1
    stop: StopText | Annotated[list[StopText], Field(max_length=MOST_STOPS)] | None = None
    seed: Seed | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] | None = 1.0
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = 0
    min_p: Annotated[float, Field(ge=0, le=1)] | None = 0.0
    repetition_penalty: Annotated[float, Field(ge=REPETITION[0], le=REPETITION[1])] | None = 1.0
    frequency_penalty: Penalty | None = 0.0
    presence_penalty: Penalty | None = 0.0


class ChatRequest(Asked):
    """A conversation to go on with."""

    messages: Messages
    max_tokens: Annotated[int, Field(ge=1, le=2**31), WHOLE] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31), WHOLE] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES), WHOLE] | None = None
    response_format: Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None  # a message has one call at most, whatever this says
    house_tools: bool | Annotated[list[Name], Field(max_length=MOST_TOOLS)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, plain: Any) -> Any:
        return refuse(plain, REFUSED)


class CompletionRequest(Asked):
    """A text, or several, to go on with as a document."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS)] | None = ""
    max_tokens: Annotated[int, Field(ge=1, le=2**31), WHOLE] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=5), WHOLE] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, plain: Any) -> Any:
        if isinstance(plain, dict):
            if plain.get("best_of") == (plain.get("n") or 1):  # no more than are wanted: what happens anyway
                plain = {**plain, "best_of": None}
            prompt = plain.get("prompt")
            if isinstance(prompt, list) and any(isinstance(p, (int, list)) for p in prompt):
                raise unsupported("prompt", "tokens can't be given by number; give a text")
        return refuse(plain, REFUSED_COMPLETION)


class TokenizeText(Checked):
    """A text."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    text: Text


class TokenizeChat(Checked):
    """A conversation as the model reads it before it replies."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    messages: Messages
    house_tools: bool | Annotated[list[Name], Field(max_length=MOST_TOOLS)] | None = None


class RenderRequest(Checked):
    """Markdown."""

    text: Text


class LoginRequest(Checked):
    """The key that the server was started with."""

    key: Annotated[str, Field(max_length=1000)]
