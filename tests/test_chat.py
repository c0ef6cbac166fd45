"""The chat: first the conversation with a model that says what it is told, then the program in a terminal and a pipe."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sprout.chat import Chat, Screen, describe, open_chat, talk
from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall
from sprout.engine import Completion, Engine, Event, Prompt, Sampling, TooLong, toolbox_for
from sprout.grown import find_model
from sprout.model import GPT, GPTConfig
from sprout.model.hf import save_hf
from sprout.remote import Remote, plain
from sprout.tokenizer import Tokenizer
from sprout.world import WorldConfig

CONTEXT = 120


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["Hello, how are you? I am well. What is 12 + 30? It is 42."] * 3, 300)


class Scripted(Engine):
    """An engine whose replies are the given events, in turn; it notes what it was asked."""

    def play(self, *replies: list[Event]) -> Scripted:
        self.replies, self.asked = list(replies), []  # type: ignore[var-annotated]
        return self

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Event]:
        self.asked.append(prompt)
        for event in self.replies.pop(0):
            if event.kind == "interrupt":
                raise KeyboardInterrupt
            yield event


def said(*texts: str, finish: str = "stop") -> list[Event]:
    """A reply that comes in pieces."""
    done = Completion([], [], [], [], (Message("assistant", "".join(texts)),), finish)
    return [*(Event("text", t) for t in texts), Event("done", completion=done)]


@pytest.fixture
def chat(tokenizer: Tokenizer) -> Callable[..., Chat]:
    def make(*replies: list[Event]) -> Chat:
        model = GPT(GPTConfig(tokenizer.vocab_size, CONTEXT, 1, 8, 1, 1, 8, 8))
        return Chat(
            Scripted(model, tokenizer, toolbox_for(None)).play(*replies), ("calculator",), Sampling(max_tokens=40)
        )

    return make


def ask(chat: Chat, text: str) -> tuple[str, list[str]]:
    """What is written and what is noted."""
    words, notes = [], []  # type: ignore[var-annotated]
    chat.reply(text, words.append, notes.append)
    return "".join(words), notes


def test_the_conversation_is_kept(chat: Callable[..., Chat]) -> None:
    c = chat(said("I am ", "well."), said("Yes."))
    assert ask(c, "How are you?") == ("I am well.", [])
    ask(c, "Really?")
    assert c.engine.asked[1] == Prompt(  # type: ignore[attr-defined]
        (Message("user", "How are you?"), Message("assistant", "I am well."), Message("user", "Really?")),
        ("calculator",),
    )
    assert c.messages[-1] == Message("assistant", "Yes.")


def test_tool_calls_are_shown_and_kept(chat: Callable[..., Chat]) -> None:
    call = ToolCall.of("calculator", expression="12 + 30")
    messages = (Message("assistant", "", call), Message("tool", "42"), Message("assistant", "It is 42."))
    done = Event("done", completion=Completion([], [], [], [], messages, "stop"))
    c = chat([Event("call", call=call), Event("result", "42"), Event("text", "It is 42."), done])
    assert ask(c, "12 + 30?") == ("It is 42.", ["[calculator] 12 + 30 -> 42"])
    assert tuple(c.messages[1:]) == messages
    assert describe(None, "oven {") == "[malformed call] oven {"


def test_the_oldest_is_forgotten_when_the_context_is_full(chat: Callable[..., Chat]) -> None:
    c = chat(*[said("I am well.")] * 12)
    c.messages = [Message("system", "Be kind.")]
    notes = [ask(c, f"How are you? {i}")[1] for i in range(12)]
    told = [n for n in notes if n]
    assert told and all("the context is full; forgot the oldest" in n[0] for n in told)
    assert c.messages[0] == Message("system", "Be kind.") and c.messages[1].role == "user"
    assert len(c.messages) < 20
    for prompt in c.engine.asked:  # type: ignore[attr-defined]
        assert c.engine.room(prompt) >= 40


def test_a_long_message_is_refused_and_taken_back(chat: Callable[..., Chat]) -> None:
    c = chat(said("Yes."), said("Yes."))
    ask(c, "Hello")
    with pytest.raises(UserError, match=f"too long: the model reads {CONTEXT} tokens"):
        ask(c, "1" * 500)
    assert ask(c, "Hello") == ("Yes.", [])
    assert all("111" not in m.content for m in c.messages)


def test_a_message_that_just_fits_is_answered(chat: Callable[..., Chat]) -> None:
    c = chat(said("Y", finish="context"))
    room = c.engine.room(Prompt((Message("user", ""),), c.tools))
    assert ask(c, "1" * (room - 1)) == ("Y", ["[cut off: the context is full]"])


def test_an_interrupted_reply_stays(chat: Callable[..., Chat]) -> None:
    c = chat([Event("text", "I am"), Event("interrupt")], [Event("interrupt")], said("Yes."))
    for text in ("How are you?", "Hello?"):
        with pytest.raises(KeyboardInterrupt):
            ask(c, text)
        assert c.messages == [Message("user", "How are you?"), Message("assistant", "I am")]
    assert ask(c, "Really?")[0] == "Yes."


def test_commands(chat: Callable[..., Chat]) -> None:
    c = chat(said("Yes."))
    ask(c, "Hello")
    assert "/temperature" in str(c.command("/help"))
    assert c.command("/temperature 0.7") == "the temperature is 0.7" and c.sampling.temperature == 0.7
    for wrong in ("hot", "-1", "nan"):
        assert "expected a number" in str(c.command(f"/temperature {wrong}")) and c.sampling.temperature == 0.7
    assert c.command("/tools off") == "its tools: none" and c.tools == ()
    assert c.command("/tools on") == "its tools: calculator" and c.tools == ("calculator",)
    c.command("/system Be kind.")
    assert c.messages == [Message("system", "Be kind.")]
    c.messages.append(Message("user", "Hello"))
    c.command("/reset")
    assert c.messages == [Message("system", "Be kind.")]
    c.command("/system")
    assert c.messages == []
    assert "no command /dance" in str(c.command("/dance")) and c.command("/quit") is None


def test_control_characters_of_a_model_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(True)
    screen.write("a\x1b[2J\r\x9bb\tc")
    screen.note("[x\x07]")
    assert capsys.readouterr().out == "a�[2J��b\tc\n[x�]\n"


def test_once_writes_the_reply_alone_to_the_output(
    chat: Callable[..., Chat], capsys: pytest.CaptureFixture[str]
) -> None:
    c = chat(said("It is 42.", finish="length"))
    assert talk(c, "12 + 30?") == 0
    out, error = capsys.readouterr()
    assert out == "It is 42.\n" and error == "[cut off: the reply got too long]\n"


# ------------------------------------------------------------------------------------------------ models in folders


def endless(tokenizer: Tokenizer, context: int) -> GPT:
    """A model that repeats 'Hello' for ever: tied to nothing but the last token."""
    config = GPTConfig(tokenizer.vocab_size, context, 1, 16, 1, 1, 8, 8)
    model = GPT(config)
    with torch.no_grad():
        model.head[:] = 0  # type: ignore[index]
        hello = tokenizer.encode("Hello")[0]
        model.embed[:] = 1
        model.head[hello] = 1  # type: ignore[index]
    return model


@pytest.fixture(scope="module")
def run(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two finished stages and a world."""
    folder = tmp_path_factory.mktemp("runs") / "default"
    for stage in ("pretrain", "finetune"):
        save_hf(endless(tokenizer, 3000), tokenizer, folder / "stages" / stage)
    (folder / "world.json").write_text(json.dumps(asdict(WorldConfig(people=8, strangers=20))))
    return folder


def test_a_run_gives_its_last_stage_and_its_world(run: Path, tmp_path: Path) -> None:
    folder, world = find_model(run)
    assert folder == run / "stages" / "finetune" and world is not None and len(world.strangers) == 20
    folder, world = find_model(run / "stages" / "pretrain")
    assert folder.name == "pretrain" and world is not None
    c = open_chat(run, Sampling(), system="Be kind.")
    assert c.tools == ("calculator", "lookup") and c.messages == [Message("system", "Be kind.")]
    assert open_chat(run, Sampling(), tools=False).tools == ()
    with pytest.raises(UserError, match=r"there is no model in .*Grow one"):
        find_model(tmp_path)


def test_a_folder_without_a_world_has_no_lookup(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_hf(endless(tokenizer, 64), tokenizer, tmp_path / "model")
    assert open_chat(tmp_path / "model", Sampling()).tools == ("calculator",)
    (tmp_path / "model" / "world.json").write_text('{"dragons": 3}')
    with pytest.raises(UserError, match=r"world\.json is damaged"):
        find_model(tmp_path / "model")


# ------------------------------------------------------------------------------------------------ the program

COMMAND = [sys.executable, "-c", "import sys; from sprout.cli import main; main(sys.argv[1:])", "chat"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "dumb"}


def program(run: Path, *more: str, **given: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*COMMAND, "--model", str(run), *more], env=ENVIRONMENT, capture_output=True, timeout=120, check=False, **given
    )


@pytest.mark.slow
def test_program_once_and_from_a_pipe(run: Path) -> None:
    once = program(run, "-p", "Hi", "--max-tokens", "3")
    assert once.returncode == 0 and once.stdout == b"HelloHelloHello\n", once
    assert b"cut off" in once.stderr
    lines = "Hi\n\n/temperature 0\n" + "1" * 4000 + "\nTwo \\\nlines ünd \ud800".encode("utf-8", "replace").decode()
    piped = program(run, "--max-tokens", "2", input=lines.encode() + b"\xff\n")
    assert piped.stdout == b"HelloHello\n" * 2, piped
    assert b"the temperature is 0" in piped.stderr and b"message is too long" in piped.stderr
    assert piped.returncode == 1  # one line could not be answered
    missing = program(run / "nowhere")
    assert missing.returncode == 2 and b"there is no model" in missing.stderr and b"Traceback" not in missing.stderr
    long = program(run, "-p", "1" * 4000)
    assert long.returncode == 2 and b"too long" in long.stderr and long.stdout == b""


class Terminal:
    """The program in a real terminal."""

    def __init__(self, run: Path) -> None:
        child, self.screen = pty.fork()
        if child == 0:
            os.execve(sys.executable, [*COMMAND, "--model", str(run), "--max-tokens", "2900"], ENVIRONMENT)
        self.child, self.shown = child, ""

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Everything shown up to `text`, which must come."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            ready, _, _ = select.select([self.screen], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not come; there is {self.shown!r}"
            try:
                self.shown += os.read(self.screen, 4096).decode(errors="replace")
            except OSError:
                self.shown += "<closed>"
        before, _, self.shown = self.shown.partition(text)
        return before


@pytest.mark.slow
def test_program_in_a_terminal(run: Path) -> None:
    """Streams, is interrupted in mid-reply, goes on, obeys, and leaves on Ctrl-D."""
    terminal = Terminal(run)
    try:
        assert "3000 tokens" in terminal.wait_for("> ")
        terminal.type("/tools off\n")
        terminal.wait_for("its tools: none")
        terminal.type("Hi\n")
        terminal.wait_for("HelloHelloHello")  # it streams: 2,900 tokens take seconds
        terminal.type("\x03")
        assert len(terminal.wait_for("[stopped]")) < 2800 * len("Hello")
        terminal.wait_for("> ")
        time.sleep(0.3)  # readline overlooks a signal in the instant between its prompt and its waiting
        terminal.type("\x03")
        terminal.wait_for("(Ctrl-D leaves)")
        terminal.type("again\n")
        terminal.wait_for("HelloHello")
        terminal.type("\x03")
        terminal.wait_for("[stopped]")
        terminal.wait_for("> ")
        terminal.type("\x04")
        terminal.wait_for("<closed>")
        _, status = os.waitpid(terminal.child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        terminal.child = 0
    finally:
        if terminal.child:
            os.kill(terminal.child, signal.SIGKILL)
            os.waitpid(terminal.child, 0)
        os.close(terminal.screen)


# ------------------------------------------------------------------------------------------------ behind a URL


@pytest.fixture
def foreign() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server with one model whose answer to a chat is what stands in the list."""
    answers: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"object": "list", "data": [{"id": "m", "object": "model"}]}' if self.path == "/v1/models" else b"{}"
            self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n" + body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write(answers[0])

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


@pytest.mark.slow
def test_a_server_that_breaks_off_or_reads_no_more(foreign: tuple[str, list[bytes]]) -> None:
    url, answers = foreign
    chat = Chat(Remote(url))
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
    plain_chunk = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    chunk = f"data: {json.dumps(plain_chunk)}\n\n".encode()
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n"
    answers[:] = [head + chunk]
    said: list[str] = []
    with pytest.raises(UserError, match="nobody answers"):
        chat.reply("Hello", said.append, said.append)
    assert said == ["Hi"] and chat.messages[-1] == Message("assistant", "Hi")
    error = b'{"error": {"message": "it is 7 too long", "code": "context_length_exceeded"}}'
    answers[:] = [b"HTTP/1.1 400 No\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n" + error]
    with pytest.raises(TooLong, match="it is 7 too long"):
        chat.reply("Hello", said.append, said.append)


def test_the_version_in_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remote, "_asked", lambda self, ask: [SimpleNamespace(id="m", model_extra=None)])
    for given, want in (("http://vega:80", "http://vega:80/v1"), ("http://a/v1/", "http://a/v1"), ("http://a", "http://a/v1")):
        assert Remote(given).url == want


def test_a_call_without_a_result_is_not_sent() -> None:
    """A server refuses a conversation with one, which a reply that was stopped leaves behind."""
    call = ToolCall.of("calculator", expression="1")
    told = plain([Message("user", "?"), Message("assistant", "a", call), Message("tool", "1"), Message("assistant", "b", call)])
    assert [m.get("tool_calls", [{}])[0].get("id") for m in told] == [None, "call_1", None, None]
    assert told[2]["tool_call_id"] == "call_1" and told[3] == {"role": "assistant", "content": "b"}
