"""The API as it is written: answers fit OpenAI's specification, every error is an error object, limits hold, the key locks,
and every field of the specification is obeyed, refused or ignored by the rule."""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall
from sprout.engine import Tool
from sprout.serve import limits, models, prompts, schema
from sprout.serve.errors import ApiError
from sprout.serve.models import Shelf
from sprout.serve.server import bind, check_access
from tests.served import Served, ask, served, tiny_run, tiny_stage, weather

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
POSTS = {CHAT: ask(), COMPLETIONS: {"model": "r", "prompt": "Mira"}, "/tokenize": {"model": "r", "text": "Mira"}, "/render": {"text": "a"}}
# Fields of OpenAI's without influence on the reply.
IGNORED = {
    "user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "flex", "safety_identifier": "x",
    "prompt_cache_key": "x", "prompt_cache_retention": "24h", "prompt_cache_options": {}, "unknown": {"to": "all"},
}  # fmt: skip
ASKED_FOR = {
    "audio": {"voice": "ash", "format": "wav"}, "modalities": ["text", "audio"], "logit_bias": {"5": 1},
    "functions": [{"name": "f"}], "function_call": "auto", "prediction": {"type": "content", "content": "a"},
    "web_search_options": {}, "moderation": {"model": "m"}, "verbosity": "low", "reasoning_effort": "high",
    "echo": True, "suffix": "the end", "best_of": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tiny_run(tmp_path_factory.mktemp("a") / "r")) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


@pytest.fixture(scope="module")
def spec(data: Path) -> dict[str, Any]:
    file = data / "api/openapi_chat_subset.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there: OpenAI's specification")
    return nullable(json.loads(file.read_text()))


def nullable(plain: Any) -> Any:
    """OpenAPI's `nullable` as JSON schema says it."""
    if isinstance(plain, list):
        return [nullable(x) for x in plain]
    if not isinstance(plain, dict):
        return plain
    out = {k: nullable(v) for k, v in plain.items()}
    if out.pop("nullable", None) is True:
        return {"anyOf": [out, {"type": "null"}]}
    return out


def fits(spec: dict[str, Any], name: str, value: Any) -> None:
    from jsonschema import Draft202012Validator

    whole = {"$ref": f"#/components/schemas/{name}", "components": spec["components"]}
    errors = [f"{list(e.absolute_path)}: {e.message[:300]}" for e in Draft202012Validator(whole).iter_errors(value)]
    assert not errors, errors


def error(response: httpx.Response, status: int, code: str | None = None, param: str | None = None) -> str:
    """Check an error object; its text."""
    assert response.status_code == status, response.text[:500]
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"} and found["message"] and "Traceback" not in response.text
    if code:
        assert found["code"] == code, found
    if param:
        assert found["param"] == param, found
    return found["message"]


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# ---------------------------------------------------------------- the specification


REQUESTS = [
    {}, {"n": 2, "temperature": 1.2}, {"logprobs": True, "top_logprobs": 3}, {"tools": [weather()], "tool_choice": "required", "max_tokens": 60},
    {"house_tools": ["calculator"], "tool_choice": {"type": "function", "function": {"name": "calculator"}}, "max_tokens": 40},
    {"response_format": {"type": "json_object"}}, {"stop": ["e", "a"]}, {"max_completion_tokens": 3},
]  # fmt: skip


@pytest.mark.parametrize("more", REQUESTS)
def test_chats_fit_the_specification(client: httpx.Client, spec: dict[str, Any], more: dict[str, Any]):
    fits(spec, "CreateChatCompletionRequest", ask(**{k: v for k, v in more.items() if k != "house_tools"}))
    whole = client.post(CHAT, json=ask(**more))
    assert whole.status_code == 200, whole.text
    fits(spec, "CreateChatCompletionResponse", whole.json())
    streamed = client.post(CHAT, json=ask(**more, stream=True, stream_options={"include_usage": True}))
    pieces = chunks(streamed)
    for piece in pieces:
        fits(spec, "CreateChatCompletionStreamResponse", piece)
    assert pieces[-1]["usage"]["completion_tokens"] == whole.json()["usage"]["completion_tokens"]
    for choice in whole.json()["choices"]:  # the stream says the same as the whole
        mine = [c for p in pieces for c in p["choices"] if c["index"] == choice["index"]]
        assert mine[0]["delta"]["role"] == "assistant" and [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]]
        said = "".join(c["delta"].get("content") or "" for c in mine)
        assert said.endswith(choice["message"]["content"] or "")
        told = [t["id"] for c in mine if c["logprobs"] for t in c["logprobs"]["content"]]
        assert told == [t["id"] for t in (choice["logprobs"] or {"content": []})["content"]]


@pytest.mark.parametrize("more", [{}, {"logprobs": 2, "max_tokens": 5}, {"prompt": ["Mira", "The fox"], "n": 2}, {"stop": "e"}])
def test_completions_fit_the_specification(client: httpx.Client, spec: dict[str, Any], more: dict[str, Any]):
    body = {"model": "r:pretrain", "prompt": "Mira", "seed": 3, **more}
    whole = client.post(COMPLETIONS, json=body)
    assert whole.status_code == 200, whole.text
    fits(spec, "CreateCompletionResponse", whole.json())
    pieces = chunks(client.post(COMPLETIONS, json=body | {"stream": True, "stream_options": {"include_usage": True}}))
    for piece in pieces:
        fits(spec, "CreateCompletionResponse", {k: v for k, v in piece.items() if k != "usage" or v} | {
            "choices": [{**c, "finish_reason": c["finish_reason"] or "stop"} for c in piece["choices"]]
        })  # fmt: skip
    for choice in whole.json()["choices"]:
        mine = [c for p in pieces for c in p["choices"] if c["index"] == choice["index"]]
        assert "".join(c["text"] for c in mine) == choice["text"]
        if choice["logprobs"]:
            assert [x for c in mine if c["logprobs"] for x in c["logprobs"]["text_offset"]] == choice["logprobs"]["text_offset"]
    assert len(whole.json()["choices"]) == len(more.get("prompt", "x")) * more.get("n", 1) if isinstance(more.get("prompt"), list) else 1
    assert whole.json()["usage"]["prompt_tokens"] == pieces[-1]["usage"]["prompt_tokens"]


def test_models_and_errors_fit_the_specification(client: httpx.Client, spec: dict[str, Any]):
    found = client.get("/v1/models").json()
    fits(spec, "ListModelsResponse", found)
    assert [m["id"] for m in found["data"]] == ["r:finetune", "r:pretrain"]
    one = client.get("/v1/models/r:pretrain").json()
    fits(spec, "Model", one)
    assert one in found["data"] and one["sprout"]["context"] == 512 and one["sprout"]["parameters"] > 1000
    assert client.get("/v1/models/r").json()["id"] == "r:finetune"
    response = client.post(CHAT, json=ask(model="gpt-5"))
    error(response, 404, "model_not_found", "model")
    fits(spec, "ErrorResponse", response.json())


def test_the_specifications_examples(client: httpx.Client, data: Path):
    seen = set()
    for text in (data / "api/reference_examples.jsonl").read_text().splitlines():
        example = json.loads(text)
        found = re.search(r"-d '(.*)'", example["curl"], re.DOTALL)
        path, method = "/v1" + example["path"].replace("{model}", "r"), example["method"].upper()
        body = json.loads(found[1]) | ({"model": "r", "max_tokens": 6} if "completions" in path else {}) if found else None
        response = client.request(method, path, json=body)
        if example["title"] == "Image input":
            error(response, 400, "unsupported_parameter", "messages[0].content")
        elif path == "/v1/embeddings":
            error(response, 404)
        elif method == "DELETE" or (method, path) == ("GET", CHAT):
            error(response, 405)
        else:
            assert response.status_code == 200, response.text
        seen.add(example["title"])
    assert len(seen) >= 6


# ---------------------------------------------------------------- the rule for fields


def test_every_field_of_the_specification_is_decided(spec: dict[str, Any]):
    chat = spec["components"]["schemas"]["CreateChatCompletionRequest"]["allOf"][1]["properties"]
    shared = spec["components"]["schemas"]["ModelResponseProperties"]["properties"]
    for name in {*chat, *shared}:
        assert (name in schema.ChatRequest.model_fields) + (name in schema.REFUSED) + (name in IGNORED) == 1, name
    for name in spec["components"]["schemas"]["CreateCompletionRequest"]["properties"]:
        assert (name in schema.CompletionRequest.model_fields) + (name in schema.REFUSED_COMPLETION) + (name in IGNORED) == 1, name


@pytest.mark.parametrize("name", sorted({*schema.REFUSED, *schema.REFUSED_COMPLETION}))
def test_what_we_cant_do_is_refused(client: httpx.Client, name: str):
    for path, table in ((CHAT, schema.REFUSED), (COMPLETIONS, schema.REFUSED_COMPLETION)):
        if name in table:
            body = POSTS[path] | {"max_tokens": 2}
            assert name in error(client.post(path, json=body | {name: ASKED_FOR[name]}), 400, "unsupported_parameter", name)
            for neutral in (None, *table[name]):
                assert client.post(path, json=body | {name: neutral}).status_code == 200


def test_what_changes_nothing_is_ignored(client: httpx.Client):
    plain = client.post(CHAT, json=ask()).json()["choices"]
    assert client.post(CHAT, json=ask(**IGNORED)).json()["choices"] == plain
    assert client.post(CHAT, json=ask(parallel_tool_calls=False, stream_options={"include_usage": True})).json()["choices"] == plain


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": [{"role": "function", "name": "f", "content": "a"}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "content": "a", "function_call": {"name": "f", "arguments": ""}}]}, "messages[].function_call"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "file", "file": {}}]}]}, "messages[0].content"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tools": [weather()], "tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice"),
    ],
)  # fmt: skip
def test_parts_that_we_cant_do_are_refused(client: httpx.Client, more: dict[str, Any], param: str):
    error(client.post(CHAT, json=ask(**more)), 400, "unsupported_parameter", param)


def test_completions_refuse_what_they_cant(client: httpx.Client):
    assert client.post(COMPLETIONS, json={"model": "r", "prompt": "a", "n": 2, "best_of": 2, "max_tokens": 1}).status_code == 200
    for more, param in (({"best_of": 2, "n": 3}, "best_of"), ({"prompt": [1, 2]}, "prompt"), ({"prompt": [[1], [2]]}, "prompt")):
        error(client.post(COMPLETIONS, json={"model": "r", "prompt": "a", **more}), 400, "unsupported_parameter", param)


# ---------------------------------------------------------------- what a reply is


def test_fields_are_obeyed(client: httpx.Client):
    def said(**more: Any) -> list[str]:
        found = client.post(CHAT, json=ask(**({"max_tokens": 24, "temperature": 1} | more))).json()
        return [c["message"]["content"] for c in found["choices"]]

    assert said(seed=5) == said(seed=5) != said(seed=6)
    assert said(seed=5, n=3) == [*said(seed=5), *said(seed=6), *said(seed=7)]
    assert said(seed=5, top_k=1) == said(seed=6, top_p=0) == said(seed=7, min_p=1) == said(temperature=0)
    assert said(seed=5, repetition_penalty=2) != said(seed=5) != said(seed=5, frequency_penalty=2)
    assert said(seed=5, messages=[{"role": "developer", "content": "Be kind."}, *ask()["messages"]]) != said(seed=5)
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "Mira"}]}]
    assert said(seed=5, messages=parts) == said(seed=5)
    long = said(temperature=0)[0]
    cut = said(temperature=0, stop=long[3:5])[0]
    assert cut == long[: long.index(long[3:5])]
    found = client.post(CHAT, json=ask(max_tokens=50, max_completion_tokens=3)).json()
    assert found["usage"]["completion_tokens"] <= 3 and found["choices"][0]["finish_reason"] == "length"
    assert client.post(CHAT, json=ask(n=None, stop=None, seed=None, temperature=None)).status_code == 200


def test_tools_of_the_caller(client: httpx.Client):
    named = {"type": "function", "function": {"name": "weather"}}
    other = {"type": "function", "function": {"name": "other"}}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
    for choice in ("required", named, allowed):
        body = ask(tools=[weather(), other] if choice is allowed else [weather()], tool_choice=choice, max_tokens=60)
        choice_ = client.post(CHAT, json=body).json()["choices"][0]
        assert choice_["finish_reason"] == "tool_calls" and choice_["message"]["content"] is None
        call = choice_["message"]["tool_calls"][0]
        arguments = json.loads(call["function"]["arguments"])
        assert call["function"]["name"] == "weather" and arguments["city"] in ("Oslo", "Rome") and arguments["days"] in (1, 2)
        told = [d for p in chunks(client.post(CHAT, json=body | {"stream": True})) for c in p["choices"] for d in c["delta"].get("tool_calls", [])]
        assert told[0]["function"] == call["function"] and told[0]["index"] == 0
    messages = [*body["messages"], choice_["message"], {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]
    assert client.post(CHAT, json=body | {"messages": messages, "tool_choice": "auto"}).status_code == 200
    error(client.post(CHAT, json=body | {"messages": messages[:-1]}), 400, "invalid_value", "messages")
    none = client.post(CHAT, json=body | {"tool_choice": "none"}).json()["choices"][0]
    assert "tool_calls" not in none["message"]
    for more in ({"tools": []}, {"tools": [other]}, {"tools": None}):
        error(client.post(CHAT, json=body | {"tool_choice": named} | more), 400, "invalid_value", "tool_choice")


def test_a_tool_whose_schema_cant_be_kept_to(client: httpx.Client, server: Served):
    engine = server.service.shelf.load("r").engine
    task = prompts.chat_task(schema.ChatRequest(**ask(tools=[weather()])), engine)
    assert task.sampling.strict and task.loose and task.prepare(engine)[0].calls is not None
    odd = weather(parameters={"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=a)b"}}})
    assert client.post(CHAT, json=ask(tools=[odd])).status_code == 200
    odd["function"]["strict"] = True
    error(client.post(CHAT, json=ask(tools=[odd])), 400)


def test_house_tools_run_within_the_reply(client: httpx.Client, server: Served):
    toolbox = server.service.shelf.load("r").engine.toolbox
    sides = {"type": "object", "properties": {"sides": {"enum": ["six", "ten"]}}, "required": ["sides"], "additionalProperties": False}
    toolbox["dice"] = Tool("dice", "Throws dice.", sides, lambda sides: f"a {sides}")
    body = ask(house_tools=["dice"], tool_choice={"type": "function", "function": {"name": "dice"}}, max_tokens=60)
    try:
        whole = client.post(CHAT, json=body).json()
        streamed = chunks(client.post(CHAT, json=body | {"stream": True}))
    finally:
        del toolbox["dice"]
    call, result = whole["sprout"]["messages"][:2]
    assert call["tool_calls"][0]["function"]["name"] == "dice" and result["content"] in ("a six", "a ten")
    assert result["role"] == "tool" and result["tool_call_id"] == call["tool_calls"][0]["id"]
    own = [p["sprout"] for p in streamed if "sprout" in p]
    assert own[0]["call"] == call["tool_calls"][0]["function"] and own[1]["result"] == result["content"]
    assert set(own[-1]) == {"index", "finish", "tokens", "seconds", "first_seconds", "tokens_per_s"}
    said = "".join(c["delta"].get("content") or "" for p in streamed for c in p["choices"])
    assert said == whole["choices"][0]["message"]["content"] == whole["sprout"]["messages"][-1]["content"]
    again = [*body["messages"], *whole["sprout"]["messages"], {"role": "user", "content": "And?"}]  # can be sent back
    assert client.post(CHAT, json=ask(messages=again)).status_code == 200
    error(client.post(CHAT, json=ask(house_tools=["python3"])), 400, "invalid_value", "house_tools")


def test_replies_of_a_form(client: httpx.Client):
    shape = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": shape}}
    found = client.post(CHAT, json=ask(response_format=form, max_tokens=40)).json()["choices"][0]["message"]["content"]
    assert json.loads(found) in ({"a": "x"}, {"a": "y"})
    form["json_schema"]["schema"] = {"type": "no such thing"}
    error(client.post(CHAT, json=ask(response_format=form)), 400, "invalid_value", "response_format")


def test_logprobs_are_those_of_tokens(client: httpx.Client):
    found = client.post(CHAT, json=ask(logprobs=True, top_logprobs=20, temperature=0)).json()["choices"][0]
    tokens = found["logprobs"]["content"]
    spelled = b"".join(bytes(t["bytes"]) for t in tokens if not t["token"].startswith("<|"))
    assert spelled.decode("utf-8", "replace") == found["message"]["content"]
    for t in tokens:
        assert len(t["top_logprobs"]) == 20 and t["logprob"] <= 0
        assert sum(math.exp(x["logprob"]) for x in t["top_logprobs"]) <= 1 + 1e-4
        values = [x["logprob"] for x in t["top_logprobs"]]
        assert values == sorted(values, reverse=True)
    error(client.post(CHAT, json=ask(top_logprobs=2)), 400, param="top_logprobs")


def test_tokenize(client: httpx.Client, server: Served):
    found = client.post("/tokenize", json={"model": "r", "text": "Ünïcode 🦊"}).json()
    assert b"".join(bytes(t["bytes"]) for t in found["tokens"]) == "Ünïcode 🦊".encode() and found["count"] == len(found["tokens"])
    chat = client.post("/tokenize", json={"model": "r", "messages": ask()["messages"], "house_tools": True}).json()
    spelled = b"".join(bytes(t["bytes"]) for t in chat["tokens"]).decode()
    assert spelled == "<|endoftext|><|system|>Tools: calculator<|end|><|user|>Hello Mira<|end|><|assistant|>"
    assert next(t["text"] for t in chat["tokens"] if t["special"]) == "<|endoftext|>"
    assert client.post(CHAT, json=ask(house_tools=True)).json()["usage"]["prompt_tokens"] == chat["count"]
    error(client.post("/tokenize", json={"model": "r"}), 400)
    error(client.post("/tokenize", json={"model": "r", "text": "🦊" * 100_000}), 400)  # of half a million tokens


# ---------------------------------------------------------------- errors and limits


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"), ({"messages": [{"role": "king", "content": "a"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"), ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"), ({"temperature": 3}, "temperature"), ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"), ({"n": 9}, "n"), ({"stop": [""]}, "stop[0]"), ({"stop": ["a"] * 9}, "stop"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"), ({"stream": "yes"}, "stream"), ({"model": None}, "model"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"), ({"seed": 2**64}, "seed"),
        ({"tool_choice": "perhaps"}, "tool_choice"), ({"response_format": {"type": "xml"}}, "response_format"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "a"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "a"}] * 501}, "messages"),
        ({"messages": [{"role": "user", "content": "a" * 200_001}]}, "messages[0].content"),
    ],
)  # fmt: skip
def test_wrong_fields_are_named(client: httpx.Client, more: dict[str, Any], param: str):
    error(client.post(CHAT, json=ask(**more)), 400, param=param)


def test_missing_fields_are_named(client: httpx.Client):
    for name in ("model", "messages"):
        body = ask()
        del body[name]
        error(client.post(CHAT, json=body), 400, "missing_required_parameter", name)


def test_too_long_a_prompt(client: httpx.Client):
    for path, more in ((CHAT, {"messages": ask("Mira " * 600)["messages"]}), (COMPLETIONS, {"prompt": "Mira " * 600})):
        assert "512" in error(client.post(path, json=POSTS[path] | more), 400, "context_length_exceeded")
    error(client.post(CHAT, json=ask("a" * 199_000)), 400, "context_length_exceeded")  # without being cut into tokens


@pytest.mark.parametrize("path", POSTS)
def test_bodies_have_limits(client: httpx.Client, path: str):
    def post(body: bytes, **headers: str) -> httpx.Response:
        return client.post(path, content=body, headers={"content-type": "application/json", **headers})

    error(post(b"{" + b" " * limits.LARGEST_BODY), 413)
    error(client.post(path, content=iter([b"{" + b" " * 600_000] * 2), headers={"content-type": "application/json"}), 413)
    deep = b'{"metadata": ' + b"[" * 70 + b"]" * 70 + b"}"
    assert "64" in error(post(deep), 400, "invalid_json")
    error(post(b'{"a":' + b"[" * 100_000), 400, "invalid_json")
    for broken in (b"", b"{", b"[]", b"null", b'{"a": NaN}', b'{"a": -Infinity}', b'{"model": "\\ud800"}', b'{"model": "\xff"}', b'\xef\xbb\xbf{}', b'{"a": ' + b"9" * 5000 + b"}"):
        error(post(broken), 400)
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/json; charset=latin-1"}, {"content-encoding": "gzip"}):
        error(post(b"{}", **headers), 415)
    error(client.request("POST", path), 415)
    good = json.dumps(POSTS[path]).encode()
    for hidden in (b"NaN", b"1e999", b'"\\ud800"', b'{"\\udfff": 1}', b"1" * 5000):  # in a field that nobody reads
        assert post(good[:-1] + b', "metadata": ' + hidden + b"}").status_code == (200 if hidden == b"1e999" else 400), hidden
    assert post(good, **{"content-type": "application/json; charset=utf-8"}).status_code == 200


def test_a_body_far_over_the_limit_is_not_read(server: Served):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{{".encode())
        sock.settimeout(5)
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")


def test_slow_bodies_are_given_up(server: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SLOWEST_BODY", 0.2)
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
    connection.putrequest("POST", CHAT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    assert connection.getresponse().status == 408


def test_unknown_routes_and_methods(client: httpx.Client, server: Served):
    for path in ("/nope", "/v1/embeddings", "/docs", "/redoc", "/v1", "/page/nope.js", "/page/../server.py", "/page/%2e%2e/server.py", "/v1/models/nope", "/v1/models/../../etc/passwd", "/v1/models/%2Fetc%2Fpasswd"):
        error(client.get(path), 404)
    for method, path in (("GET", CHAT), ("DELETE", "/v1/models/r"), ("PUT", "/tokenize"), ("POST", "/health"), ("PATCH", "/v1/models")):
        response = client.request(method, path)
        error(response, 405)
        assert response.headers["allow"]
    error(client.get("/report"), 404)
    (server.service.shelf.run / "report.html").write_text("<style>b {color: red}</style><b>grown</b>")
    report = client.get("/report")
    assert "grown" in report.text and "script-src" not in report.headers["content-security-policy"]
    state = client.get("/grow/state").json()
    assert state["run"] == "r" and state["report"] and {s["name"] for s in state["stages"]} >= {"pretrain", "finetune"}


def test_the_page_and_its_files(client: httpx.Client):
    index = client.get("/")
    assert index.status_code == 200 and index.headers["content-type"].startswith("text/html")
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', index.text):
        found = client.get(path)
        assert found.status_code == 200 and found.headers["cache-control"] == "no-cache", path
    assert client.get("/page/app.js").headers["content-type"].startswith(("text/javascript", "application/javascript"))
    assert client.post("/render", json={"text": "**a** <script>b</script>"}).json()["html"].startswith("<p><strong>a</strong> &lt;script")


def test_every_answer_has_the_headers(client: httpx.Client):
    answers = [client.get(p) for p in ("/", "/health", "/v1/models", "/nope", "/metrics", "/openapi.json")]
    answers += [client.post(CHAT, json=ask()), client.post(CHAT, json=ask(stream=True)), client.post(CHAT, content=b"x")]
    for answer in answers:
        h = answer.headers
        assert "default-src 'none'; script-src 'self'" in h["content-security-policy"] and "unsafe" not in h["content-security-policy"]
        assert h["x-content-type-options"] == "nosniff" and h["referrer-policy"] == "no-referrer"
        assert not [name for name in h if name.startswith("access-control")] and "server" not in h


def test_other_sites_are_refused(client: httpx.Client, server: Served):
    port = server.url.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.nip.io", ""):
        error(client.get("/v1/models", headers={"host": host}), 403, "wrong_host")
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]", f"[::1]:{port}"):
        assert client.get("/v1/models", headers={"host": host}).status_code == 200
    for origin in ("http://evil.example", "null", f"http://evil.example:{port}", "http://["):
        error(client.post(CHAT, json=ask(), headers={"origin": origin}), 403, "wrong_origin")
    assert client.post(CHAT, json=ask(), headers={"origin": server.url}).status_code == 200


def test_metrics_count(client: httpx.Client, server: Served):
    before = {n: server.metric(n) for n in ("sprout_prompt_tokens_total", "sprout_completion_tokens_total", "sprout_first_token_seconds_count")}
    usage = chunks(client.post(CHAT, json=ask(stream=True, stream_options={"include_usage": True})))[-1]["usage"]
    assert server.metric("sprout_prompt_tokens_total") - before["sprout_prompt_tokens_total"] == usage["prompt_tokens"]
    assert server.metric("sprout_completion_tokens_total") - before["sprout_completion_tokens_total"] == usage["completion_tokens"]
    assert server.metric("sprout_first_token_seconds_count") - before["sprout_first_token_seconds_count"] == 1
    client.get("/nope/some/thing")
    routes = set(re.findall(r'route="([^"]*)"', client.get("/metrics").text))
    assert routes <= {*POSTS, "/", "/health", "/login", "/metrics", "/v1/models", "/v1/models/{model:path}", "/openapi.json", "/report", "/page", "/page/code.css", "/grow/state", "other"}


# ---------------------------------------------------------------- the key


def test_the_key_locks(tmp_path: Path):
    with served(tiny_run(tmp_path / "r"), api_key="se.cret") as found, found.client() as client:
        for path in ("/v1/models", "/metrics", "/grow/state", "/openapi.json", "/nope", "/report"):
            response = client.get(path)
            error(response, 401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
        for given in ("Bearer wrong", "Bearer", "Basic se.cret", "se.cret", "Bearer se.cre", "Bearer sé.cret".encode()):
            error(client.post(CHAT, json=ask(), headers={"authorization": given}), 401)
        for path in ("/", "/health", "/page/nope"):
            assert client.get(path).status_code in (200, 404)
        assert client.get("/v1/models", headers={"authorization": "Bearer se.cret"}).status_code == 200
        error(client.post("/login", json={"key": "wrong"}), 401)
        assert not client.cookies
        response = client.post("/login", json={"key": "se.cret"})
        assert response.status_code == 200 and "se.cret" not in str(response.headers)
        assert {"HttpOnly", "SameSite=strict"} <= set(response.headers["set-cookie"].split("; "))
        assert client.get("/v1/models").status_code == 200  # by the cookie
        assert client.post(CHAT, json=ask()).status_code == 200
        error(client.get("/v1/models", headers={"cookie": "sprout_session=guess"}), 401)


def test_who_may_listen_where():
    check_access("127.0.0.1", None, False)
    check_access("::1", None, False)
    check_access("localhost", None, False)
    check_access("0.0.0.0", None, True)
    check_access("0.0.0.0", "key", False)
    for host in ("0.0.0.0", "192.168.0.7", "::", "example.org"):
        with pytest.raises(UserError, match="--open"):
            check_access(host, None, False)
    for key in ("", "a b", "ké", "a\n"):
        with pytest.raises(UserError, match="key"):
            check_access("127.0.0.1", key, False)
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(UserError, match="--port"):
            bind("127.0.0.1", taken.getsockname()[1])
    for host, port in (("127.0.0.1", 99999), ("no such host.invalid", 1)):
        with pytest.raises(UserError):
            bind(host, port)


# ---------------------------------------------------------------- models


def test_a_run_that_grows(tmp_path: Path):
    run = tmp_path / "r"
    with pytest.raises(UserError, match="sprout grow"):
        Shelf(run)
    shelf = Shelf(run, watch=True)
    assert shelf.cards() == []
    with pytest.raises(ApiError, match="none yet"):
        shelf.load("r")
    tiny_stage(run / "stages" / "pretrain")
    first = shelf.load("r")
    assert first.place.id == "r:pretrain" and shelf.load("r:pretrain") is first and not first.retired
    tiny_stage(run / "stages" / "finetune")
    assert [c["id"] for c in shelf.cards()] == ["r:finetune", "r:pretrain"] and shelf.load("r").place.stage == "finetune"
    assert shelf.load("r:pretrain") is first
    tiny_stage(run / "stages" / "pretrain", seed=5)
    os.utime(run / "stages" / "pretrain" / "model.safetensors", ns=(1, 1))
    assert shelf.load("r:pretrain") is not first and first.retired
    (run / "stages" / "pretrain" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ApiError) as caught:
        shelf.load("r:pretrain")
    assert caught.value.status == 500 and str(tmp_path) not in caught.value.message


def test_models_of_folders(tmp_path: Path):
    assert [p.id for p in Shelf(tiny_stage(tmp_path / "my model")).places()] == ["my model"]
    assert [p.id for p in Shelf(tiny_stage(tmp_path / "r" / "stages" / "finetune")).places()] == ["r:finetune"]
    assert models.plain("a\udcff") == "a?"


# ---------------------------------------------------------------- conversations


def read(*messages: dict[str, Any]) -> list[Message]:
    return prompts.conversation(schema.ChatRequest(model="r", messages=list(messages)).messages)


def called(*ids: str, content: str | None = None) -> dict[str, Any]:
    calls = [{"id": i, "type": "function", "function": {"name": f"f{i}", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(i: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": i, "content": f"result {i}"}


def test_conversations_become_ours():
    say = {"role": "user", "content": "a"}
    assert read({"role": "developer", "content": "s"}, say) == [Message("system", "s"), Message("user", "a")]
    assert read(say, called("1", content="hm"), result("1"))[1:] == [Message("assistant", "hm", ToolCall("f1", "{}")), Message("tool", "result 1")]
    several = read(say, called("1", "2", content="hm"), result("2"), result("1"), say)
    assert [(m.role, m.content) for m in several[1:-1]] == [("assistant", "hm"), ("tool", "result 2"), ("assistant", ""), ("tool", "result 1")]
    malformed = {"role": "assistant", "content": "<|call|>calculator {"}
    assert [m.role for m in read(say, malformed, result("x"), {"role": "assistant", "content": "b"})] == ["user", "assistant", "tool", "assistant"]
    assert read({"role": "assistant", "content": None, "refusal": "no"})[0].content == "no"
    for wrong in ([say, result("1")], [say, called("1"), say], [say, called("1"), result("2")], [say, called("1", "1"), result("1")], [say, called("1")], [say, malformed, result("1"), result("2")]):
        with pytest.raises(ApiError):
            read(*wrong)
