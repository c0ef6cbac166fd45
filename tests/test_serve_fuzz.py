"""The server under what nobody would ask: requests made from its own document by schemathesis, random fields, random bytes.
Nothing may end in status 500, nothing may answer what the document doesn't say, and the server has to be alive after it."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from sprout.serve.schema import REFUSED, REFUSED_COMPLETION, ChatRequest, CompletionRequest
from tests.served import Served, ask, served, tiny_run

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
FEW: dict[str, Any] = {
    "deadline": None, "derandomize": True, "phases": [Phase.explicit, Phase.generate], "database": None,
    "suppress_health_check": list(HealthCheck),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tiny_run(tmp_path_factory.mktemp("fuzz") / "r", context=1024), rows=8) as found:
        yield found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tiny_run(tmp_path_factory.mktemp("locked") / "r", context=1024), rows=8, api_key="key") as found:
        yield found


def document(server: Served, **headers: str) -> Any:
    refused = ["400", "401", "403", "404", "405", "408", "413", "415", "429"]
    checks = {"negative_data_rejection": {"expected-statuses": refused}}
    config = SchemathesisConfig.from_dict({"generation": {"deterministic": True}, "checks": checks, "headers": headers})
    return schemathesis.openapi.from_url(server.url + "/openapi.json", config=config, headers=headers)


def sound(case: Any) -> None:
    """What fits the document stays as it is but for what no document can say: the model and the tools are there, a result
    follows its call, a schema can be kept to. And the reply is soon over."""
    body = case.body
    if not (isinstance(body, dict) and case.meta and case.meta.generation.mode.is_positive):
        return
    if "model" in body:
        body["model"] = "r"
    if case.path in (CHAT, "/v1/completions"):
        body["max_tokens"] = 3
    if body.get("top_logprobs"):
        body["logprobs"] = True
    if isinstance(body.get("house_tools"), list):
        body["house_tools"] = ["calculator"]
    if body.get("tools"):
        body["tools"] = [{**tool, "function": {**tool["function"], "name": f"t{i}", "parameters": None}} for i, tool in enumerate(body["tools"])]
    if body.get("tool_choice") != "none" and "tool_choice" in body:
        body["tool_choice"] = "required" if body.get("tools") else "auto"
    if isinstance(body.get("response_format"), dict) and "json_schema" in body["response_format"]:
        body["response_format"]["json_schema"]["schema"] = {"type": "object"}
    if isinstance(body.get("messages"), list):
        for message in body["messages"]:
            message["tool_calls"] = None
        body["messages"] = [m for m in body["messages"] if m["role"] != "tool"] or [{"role": "user", "content": "a"}]


OPERATIONS = [
    ("POST", CHAT), ("POST", "/v1/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/{model}"), ("POST", "/tokenize"), ("POST", "/render"),
    ("POST", "/login"), ("GET", "/health"), ("GET", "/metrics"), ("GET", "/grow/state"),
]  # fmt: skip


def try_out(schema: Any, method: str, path: str, mode: GenerationMode, examples: int) -> None:
    """Send requests that fit the document, or don't, and check every answer against it by all checks there are."""

    @settings(max_examples=examples, **FEW)
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        sound(case)
        case.call_and_validate()

    run()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_route_keeps_to_the_document(server: Served, method: str, path: str):
    schema = document(server)
    assert {(m.upper(), p) for p in schema for m in schema[p]} == set(OPERATIONS)
    try_out(schema, method, path, GenerationMode.POSITIVE, 30 if method == "POST" else 3)
    if method == "POST":
        try_out(schema, method, path, GenerationMode.NEGATIVE, 30)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_route_keeps_to_the_document_under_a_key(locked: Served, method: str, path: str):
    try_out(document(locked, Authorization="Bearer key"), method, path, GenerationMode.POSITIVE, 3)


# ---------------------------------------------------------------- random fields


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields, *REFUSED, *REFUSED_COMPLETION, "text", "key", "prompt"})


@settings(max_examples=150, **FEW)
@given(path=st.sampled_from([p for m, p in OPERATIONS if m == "POST"]), fields=st.dictionaries(st.sampled_from(NAMES), anything, max_size=4))
def test_random_fields(server: Served, path: str, fields: dict[str, Any]):
    body = ask(**{"prompt": "Mira", "text": "Mira", "key": "x"} | fields)
    response = server.plain.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"} and "Traceback" not in response.text


# ---------------------------------------------------------------- random bytes


def said(server: Served, data: bytes, whole: bool = False) -> bytes:
    """What the server answers to bytes; empty if it closes the connection. What is no whole request ends there."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        try:
            sock.sendall(data)
            if not whole:
                sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b""))
        except ConnectionError:
            return b""


def damaged(data: bytes, luck: random.Random) -> bytes:
    """A few bytes changed, left out, or doubled."""
    for _ in range(luck.randint(1, 6)):
        at = luck.randrange(len(data))
        new = luck.choice([bytes([luck.randrange(256)]), b"", data[at : at + luck.randint(1, 40)] * 2, b"\r\n", b"\x00", b'"', b"}"])
        data = data[:at] + new + data[at + luck.randint(0, 3) :]
    return data


def test_random_bytes(server: Served):
    luck = random.Random(5)
    body = json.dumps(ask(max_tokens=2)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: "
    request = f"{head}{len(body)}\r\n\r\n".encode() + body
    assert said(server, request, True).startswith(b"HTTP/1.1 200 ")
    seen = set()
    for i in range(300):
        if i % 3 == 0:
            data = luck.randbytes(luck.randint(1, 300))
        elif i % 3 == 1:
            data = damaged(request, luck)
        else:  # the body alone, so that it gets through to the JSON
            bad = damaged(body, luck)
            data = f"{head}{len(bad)}\r\n\r\n".encode() + bad
        answer = said(server, data, i % 3 == 2)
        status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
        assert status < 500 and b"Traceback" not in answer, (data, answer)
        seen.add(status)
    assert 400 in seen and len(seen) >= 3
    assert httpx.get(server.url + "/health").json() == {"status": "ok", "working": 0} and server.idle()
