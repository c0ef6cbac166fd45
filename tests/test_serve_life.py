"""The server's life: readers that leave or dawdle, too many at once, models that fail, signals, ports, standard input."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from sprout.cli import main
from sprout.engine import Event, Tool
from sprout.model.hf import load_hf, save_hf
from sprout.serve import server as serve_server
from sprout.serve import stream
from sprout.serve.runner import Reply
from tests.served import Served, ask, served, tiny_run

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
LONG = {"max_tokens": 4000, "temperature": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model never ends: the row of <|end|> in its output is far from all."""
    run = tiny_run(tmp_path_factory.mktemp("life") / "r", "finetune", context=4096)
    folder = run / "stages" / "finetune"
    model, tokenizer = load_hf(folder)
    with torch.no_grad():
        assert model.head is not None
        model.head[tokenizer.specials["<|end|>"]] = 0
        model.head[tokenizer.specials["<|endoftext|>"]] = 0
    save_hf(model, tokenizer, folder)
    return run


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Served]:
    with served(run, rows=4, waiting=3) as found:
        yield found


def start(server: Served, **more: Any) -> tuple[socket.socket, Any]:
    """Ask over a plain socket; the socket, and a file to read the answer from."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(ask(**LONG | more)).encode()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)  # a reader that dawdles is noticed early
    sock.settimeout(30)
    sock.connect((host, int(port)))
    sock.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock, sock.makefile("rb")


def until(what: Any, seconds: float = 10) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if what():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("streamed", [True, False])
def test_a_reader_that_leaves_frees_its_row(server: Served, streamed: bool):
    before = server.metric("sprout_cancelled_total")
    sock, file = start(server, stream=streamed, n=2)
    if streamed:
        while b'"content":"' not in (line := file.readline()) or b'"content":""' in line:
            assert line
    assert until(lambda: server.metric("sprout_running") == 2)
    file.close()
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    left = time.monotonic()
    assert until(lambda: server.metric("sprout_running") == 0, 3), "the row is still taken"
    assert time.monotonic() - left < 2  # it takes milliseconds, and a whole reply many seconds
    assert server.metric("sprout_cancelled_total") == before + 2
    assert until(lambda: server.service.app.working == 0)


def test_too_many_are_told_to_come_again(server: Served):
    held = [start(server, stream=True) for _ in range(4)]
    assert until(lambda: server.metric("sprout_running") == 4)
    held += [start(server, stream=True) for _ in range(3)]
    assert until(lambda: server.metric("sprout_queued") == 3)
    with server.client() as client:
        for more in ({}, {"stream": True}, {"n": 2}):
            response = client.post(CHAT, json=ask(**more))
            assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "rate_limit_exceeded"
        for path in ("/health", "/v1/models", "/"):  # the rest of the server is there as ever
            assert client.get(path).status_code == 200
    for sock, file in held:
        file.close()
        sock.close()
    assert server.idle()
    with server.client() as client:
        assert client.post(CHAT, json=ask(**LONG, n=8)).status_code == 429  # all of them or none
        assert not server.metric("sprout_running") and not server.metric("sprout_queued")
        assert client.post(CHAT, json=ask(n=4, max_tokens=2)).status_code == 200


def test_a_reader_that_dawdles_is_cut_off(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "PATIENCE", 0.5)
    with served(run, lag=4) as server:
        sock, file = start(server, stream=True, n=8, logprobs=True, top_logprobs=20)
        assert until(lambda: server.metric("sprout_cancelled_total") == 8, 30)  # it reads nothing
        assert server.idle() and until(lambda: server.service.app.working == 0)  # and its request has ended
        sock.close()
        sock, file = start(server, stream=True, n=8, logprobs=True, top_logprobs=20)
        assert until(lambda: server.metric("sprout_cancelled_total") == 16, 30)
        text = file.read()  # it comes back in time: what was sent, and why it ends
        assert b"pieces behind" in text and b'"code":"slow_reader"' in text and b"[DONE]" not in text


def test_many_choices_may_be_further_behind():
    """Nine steps of 64 choices, told in a row since the event loop was busy, are no reader's fault."""

    async def read() -> int:
        reply = Reply([None] * 64, True, 512, pytest.fail)  # type: ignore[list-item]
        reply.accept()
        for _ in range(9):
            reply.put([(i, Event("text", "a"), 0.0) for i in range(64)])
        return len(await anext(reply.pieces()))

    assert asyncio.run(read()) == 9 * 64


def test_connections_without_a_request_are_closed(server: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serve_server, "SLOWEST_HEAD", 0.5)
    address = server.url.removeprefix("http://").split(":")
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: ", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he"):
        with socket.create_connection((address[0], int(address[1])), 5) as sock, sock.makefile("rb") as file:
            sock.sendall(sent)
            assert file.read().startswith(b"HTTP/1.1 200 " if b"/health" in sent else b"")  # it ends


def test_a_damaged_model_fails_everybody_on_it_and_nobody_else(run: Path, tmp_path: Path):
    tiny_run(tmp_path / "r", "finetune", "pretrain")
    folder = tmp_path / "r" / "stages" / "finetune"
    model, tokenizer = load_hf(folder)
    with torch.no_grad():
        model.embed.fill_(torch.nan)
    save_hf(model, tokenizer, folder)
    with served(tmp_path / "r") as server, server.client() as client:
        response = client.post(CHAT, json=ask())
        assert response.status_code == 500 and response.json()["error"]["code"] == "model_failed"
        text = client.post(CHAT, json=ask(stream=True)).text
        assert '"code":"model_failed"' in text and "[DONE]" not in text
        assert client.post(CHAT, json=ask(model="r:pretrain")).status_code == 200
        (folder / "model.safetensors").write_bytes(b"torn")
        response = client.post(CHAT, json=ask())
        assert response.status_code == 500 and response.json()["error"]["code"] == "model_damaged"
        assert str(tmp_path) not in response.text
        tiny_run(tmp_path / "r", "finetune")  # written anew: loaded again
        assert client.post(CHAT, json=ask()).status_code == 200


def test_a_bug_ends_no_thread(server: Served, monkeypatch: pytest.MonkeyPatch):
    with server.client() as client:
        assert client.post(CHAT, json=ask()).status_code == 200
        lane = next(iter(server.service.runner._lanes.values()))
        monkeypatch.setattr(lane.scheduler, "step", lambda: 1 / 0)
        response = client.post(CHAT, json=ask())
        assert response.status_code == 500 and "division" not in response.text
        monkeypatch.setattr(server.service.shelf, "cards", lambda: 1 / 0)
        response = client.get("/v1/models")
        assert response.status_code == 500 and response.json()["error"]["code"] == "internal_error"
        assert client.post(CHAT, json=ask()).status_code == 200


def test_a_slow_tool_holds_nobody_up(run: Path):
    go = threading.Event()
    empty = {"type": "object", "properties": {}, "additionalProperties": False}
    slow = Tool("slow", "Waits.", empty, lambda: str(go.wait(20)), slow=True)
    with served(run, tools={"slow": slow}) as server, server.client() as client:
        body = ask(house_tools=["slow"], tool_choice={"type": "function", "function": {"name": "slow"}}, max_tokens=30)
        found: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: found.append(httpx.post(server.url + CHAT, json=body, timeout=30)))
        waiting.start()
        assert until(lambda: server.metric("sprout_running") == 1)
        assert client.post(CHAT, json=ask()).status_code == 200 and not found
        go.set()
        waiting.join(20)
        assert found[0].json()["sprout"]["messages"][1]["content"] == "True"


# ---------------------------------------------------------------- the process


class Process:
    """`sprout serve` as people start it."""

    def __init__(self, run: Path, *options: str, **named: Any) -> None:
        command = [sys.executable, "-m", "sprout", "serve", "--model", str(run), "--port", "0", *options]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **named)
        assert self.popen.stdout
        self.said = ""
        while "serving at " not in self.said:
            line = self.popen.stdout.readline()
            assert line, (self.popen.wait(10), self.said, self.popen.stderr and self.popen.stderr.read())
            self.said += line
        self.url = self.said.rpartition("serving at ")[2].split()[0]

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.popen.kill()
        self.popen.communicate()

    def end(self, seconds: float = 30) -> tuple[int, str]:
        """Its status and its log."""
        _, log = self.popen.communicate(timeout=seconds)
        return self.popen.returncode, log


def stream_in(url: str, into: list[bytes], **more: Any) -> threading.Thread:
    """Read a streamed reply in a thread."""

    def read() -> None:
        with httpx.stream("POST", url + CHAT, json=ask(**LONG | more | {"stream": True}), timeout=60) as response:
            into.extend(response.iter_raw())

    thread = threading.Thread(target=read)
    thread.start()
    assert until(lambda: any(b'"content":"' in piece for piece in into[1:]))
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(run: Path, number: signal.Signals):
    with Process(run) as server:
        assert "one core" in server.said and "r:finetune" in server.said
        into: list[bytes] = []
        reader = stream_in(server.url, into, max_tokens=1200)
        held = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)  # kept alive, and idle
        held.request("GET", "/health")
        assert held.getresponse().read()
        server.popen.send_signal(number)
        assert until(lambda: httpx.get(server.url + "/health").status_code == 503)
        response = httpx.post(server.url + CHAT, json=ask("a secret question"))
        assert response.status_code == 503 and response.json()["error"]["code"] == "shutting_down"
        reader.join(30)
        text = b"".join(into)
        assert text.endswith(b"data: [DONE]\n\n") and b'"tokens":1200' in text  # nothing of it is lost
        status, log = server.end()
        assert status == 0
        assert "POST /v1/chat/completions" in log and "secret" not in log and "Traceback" not in log


def test_the_grace_ends_and_a_second_signal_does_not_wait(run: Path):
    with Process(run, "--grace", "0.3") as server:
        into: list[bytes] = []
        reader = stream_in(server.url, into, n=8)
        server.popen.terminate()
        status, _ = server.end()
        reader.join(10)
        assert status == 0 and b'"code":"shutting_down"' in b"".join(into)
    with Process(run, "--grace", "60") as server:
        sock = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
        body = json.dumps(ask(**LONG, n=8)).encode()
        sock.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert until(lambda: "sprout_running 8.0" in httpx.get(server.url + "/metrics").text)
        server.popen.terminate()
        assert until(lambda: httpx.get(server.url + "/health").status_code == 503)
        server.popen.terminate()
        before = time.monotonic()
        assert server.end()[0] == 0 and time.monotonic() - before < 8
        sock.close()


def test_it_ends_with_its_standard_input(tmp_path: Path):
    with Process(tmp_path / "growing", "--watch", "--until-stdin-closes", stdin=subprocess.PIPE) as server:
        assert "none yet" in server.said and httpx.get(server.url + "/v1/models").json()["data"] == []
        assert httpx.post(server.url + CHAT, json=ask()).status_code == 404
        tiny_run(tmp_path / "growing", "pretrain")
        assert httpx.post(server.url + CHAT, json=ask(model="growing")).status_code == 200
        port = server.url.rpartition(":")[2]
        command = [sys.executable, "-m", "sprout", "serve", "--model", str(tmp_path / "growing"), "--port", port]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 2 and "--port" in second.stderr and "Traceback" not in second.stderr
        httpx.get(server.url + "/v1/models?api_key=hidden")
        assert server.popen.stdin
        status, log = server.end()
        assert status == 0 and "hidden" not in log


def test_mistakes_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for options, words in ((["--host", "0.0.0.0"], "--open"), (["--api-key", ""], "key"), (["--rows", "0"], "rows"), ([], "sprout grow"), (["--tool-file", "no.py"], "no.py")):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--model", str(tmp_path), "--port", "0", *options])
        assert ended.value.code == 2 and words in capsys.readouterr().err
