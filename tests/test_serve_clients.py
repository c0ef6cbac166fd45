"""The clients that people have: OpenAI's own and litellm, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest

from tests.served import Served, served, tiny_run, weather

USER: Any = [{"role": "user", "content": "Hello Mira"}]
KEY = "se.cret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tiny_run(tmp_path_factory.mktemp("clients") / "r"), api_key=KEY, rows=8) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0, timeout=60) as found:
        yield found


def test_models(client: openai.OpenAI):
    assert [m.id for m in client.models.list()] == ["r:finetune", "r:pretrain"]
    assert client.models.retrieve("r:pretrain").owned_by == "sprout"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-5")
    assert caught.value.code == "model_not_found"


def test_chats(client: openai.OpenAI):
    whole = client.chat.completions.create(
        model="r", messages=USER, max_tokens=12, n=3, seed=4, logprobs=True, top_logprobs=2, stop="#", temperature=1
    )
    assert len(whole.choices) == 3 and len({c.message.content for c in whole.choices}) > 1
    stream = client.chat.completions.create(
        model="r", messages=USER, max_tokens=12, n=3, seed=4, logprobs=True, top_logprobs=2, stop="#", temperature=1,
        stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    said, told = dict.fromkeys(range(3), ""), {i: [] for i in range(3)}
    for chunk in stream:
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            told[choice.index] += choice.logprobs.content if choice.logprobs and choice.logprobs.content else []
    assert chunk.usage == whole.usage
    for i, choice in enumerate(whole.choices):
        assert said[i] == choice.message.content
        assert choice.logprobs and choice.logprobs.content and len(told[i]) == len(choice.logprobs.content)
        for a, b in zip(told[i], choice.logprobs.content, strict=True):
            assert a.token == b.token and a.logprob == pytest.approx(b.logprob, abs=1e-3) and len(b.top_logprobs) == 2


def test_a_whole_round_with_a_tool(client: openai.OpenAI):
    tools: Any = [weather(strict=True)]
    first = client.chat.completions.create(model="r", messages=USER, tools=tools, tool_choice="required", max_tokens=60)
    assert first.choices[0].finish_reason == "tool_calls"
    call = first.choices[0].message.tool_calls[0]  # type: ignore[index]
    assert call.type == "function" and json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    messages = [*USER, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model="r", messages=messages, tools=tools, max_tokens=5)
    assert second.choices[0].message.role == "assistant"
    with client.chat.completions.stream(model="r", messages=USER, tools=tools, tool_choice="required", max_tokens=60) as stream:
        final = stream.get_final_completion()  # pieced together by the client
    again = final.choices[0].message.tool_calls[0]  # type: ignore[index]
    assert json.loads(again.function.arguments)["days"] in (1, 2)


class Animal(pydantic.BaseModel):
    """What a reply must be."""

    name: Literal["fox", "dog"]
    wild: bool


def test_replies_of_a_form(client: openai.OpenAI):
    found = client.chat.completions.parse(model="r", messages=USER, response_format=Animal, max_tokens=60)
    assert isinstance(found.choices[0].message.parsed, Animal)


def test_texts(client: openai.OpenAI):
    whole = client.completions.create(model="r:pretrain", prompt=["Mira", "The fox"], max_tokens=6, seed=1, logprobs=2)
    assert len(whole.choices) == 2 and len(whole.choices[1].logprobs.tokens) <= 6  # type: ignore[union-attr, arg-type]
    stream = client.completions.create(model="r:pretrain", prompt="Mira", max_tokens=6, seed=1, stream=True)
    assert "".join(c.text for chunk in stream for c in chunk.choices) == whole.choices[0].text


def test_errors_are_those_the_client_knows(client: openai.OpenAI, server: Served):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="r", messages=USER, logit_bias={"5": 1})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "logit_bias")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="r", messages=[{"role": "user", "content": "Mira " * 999}])
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="r", input="a")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    server.service.app.draining = True
    try:
        with pytest.raises(openai.InternalServerError) as down:
            client.chat.completions.create(model="r", messages=USER)
    finally:
        server.service.app.draining = False
    assert down.value.status_code == 503


def test_an_error_within_a_stream(client: openai.OpenAI, server: Served):
    stream = client.chat.completions.create(model="r", messages=USER, stream=True, max_tokens=400, temperature=0)
    from sprout.serve.errors import ApiError

    with pytest.raises(openai.APIError, match="it is over"):
        for _ in stream:
            server.service.runner.fail_all(ApiError(500, "it is over", "over"))


@pytest.mark.anyio
async def test_many_at_once_over_one_client(server: Served):
    import asyncio

    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0, timeout=60) as client:

        async def one(seed: int) -> str:
            found = await client.chat.completions.create(model="r", messages=USER, max_tokens=10, seed=seed)
            return found.choices[0].message.content or ""

        together = await asyncio.gather(*(one(seed % 8) for seed in range(24)))
        assert together[:8] == together[8:16] == together[16:] and len(set(together)) > 4
        assert together[3] == await one(3)  # a reply is the same, alone or among others


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.slow
def test_litellm(server: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise it fetches a list of prices when imported
    import litellm

    where: dict[str, Any] = {"model": "openai/r:finetune", "api_base": server.url + "/v1", "api_key": KEY, "max_retries": 0}
    whole = litellm.completion(messages=USER, max_tokens=12, seed=3, **where)
    parts = list(litellm.completion(messages=USER, max_tokens=12, seed=3, stream=True, **where))
    assert "".join(p.choices[0].delta.content or "" for p in parts) == whole.choices[0].message.content
    called = litellm.completion(messages=USER, tools=[weather()], tool_choice="required", max_tokens=60, **where)
    assert json.loads(called.choices[0].message.tool_calls[0].function.arguments)["city"] in ("Oslo", "Rome")
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(messages=[{"role": "user", "content": "Mira " * 999}], **where)
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(messages=USER, **where | {"api_key": "wrong"})


def test_our_own_terminal_chat(server: Served):
    from sprout.common.messages import Message
    from sprout.engine import Prompt, Sampling, TooLong
    from sprout.remote import Remote

    remote = Remote(server.url, key=KEY)
    assert remote.ours and remote.context == 512 and remote.toolbox == ("calculator",)
    events = list(remote.stream(Prompt((Message("user", "Hello"),), ("calculator",)), Sampling(max_tokens=8)))
    assert events[-1].completion and events[-1].completion.finish in ("stop", "length")
    with pytest.raises(TooLong):
        list(remote.stream(Prompt((Message("user", "Mira " * 999),)), Sampling()))

