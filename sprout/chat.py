"""Talking to a model in a terminal, once with a prompt, or through a pipe.

`Chat` is the conversation: it answers a message and keeps to the model's context. `talk` is the loop around it that
reads lines and writes replies. In a terminal everything is shown; elsewhere replies alone go to the standard output and
remarks (tool calls, what was cut or forgotten) to the standard error, so that a script gets what it asked for.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall
from sprout.engine import Completion, Engine, Event, Prompt, Sampling, Scheduler, TooLong, load_tools, toolbox_for
from sprout.engine.prefixes import BLOCK
from sprout.grown import find_model
from sprout.model.hf import load_hf

if TYPE_CHECKING:
    from sprout.remote import Remote

HELP = """/help            this text
/reset           forget the conversation; a system message stays
/system TEXT     begin anew under a system message; without TEXT, under none
/temperature X   0 always takes the likeliest word, 1 is as lively as the training text
/tools on|off    whether it may use its tools
/quit            leave; so does Ctrl-D
Ctrl-C stops a reply. A line that ends in \\ goes on in the next line.
A message that begins with / is written with two: //like this"""
CUT = {
    "context": "the context is full",
    "length": "the reply got too long",
    "call": "it calls a tool that is not run here",
}
CONTROL = {i: "\N{REPLACEMENT CHARACTER}" for i in (*range(32), *range(127, 160)) if chr(i) not in "\n\t"}

Write = Callable[[str], None]


class Resident(Engine):
    """An engine that remembers what it has read, so that a turn reads only what is new. Its weights must stay."""

    _scheduler: Scheduler | None = None

    def stream(self, prompt: Prompt, sampling: Sampling, scheduler: Scheduler | None = None) -> Iterator[Event]:
        if self._scheduler is None:
            self._scheduler = self.scheduler(1, blocks=4 * -(-self.context // BLOCK))
        return super().stream(prompt, sampling, scheduler or self._scheduler)


@dataclass(slots=True)
class Chat:
    """A conversation and the engine, here or behind a URL, that goes on with it. `tools` are the names of those that it may call."""

    engine: Engine | Remote
    tools: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    messages: list[Message] = field(default_factory=list)

    def prompt(self) -> Prompt:
        """The conversation so far."""
        return Prompt(tuple(self.messages), self.tools)

    def fit(self) -> int:
        """Forget the oldest exchanges until half of the context, or all that a reply may take, is free; how many.

        Raises UserError if the last message alone leaves no room.
        """
        context, dropped = self.engine.context, 0
        wanted = min(self.sampling.max_tokens, context // 2)  # a call and what the tool answers need room, too
        while (room := self.engine.room(self.prompt())) < wanted:
            if self.forget():
                dropped += 1
            elif room < 1:
                raise UserError(
                    f"the message is too long: the model reads {context} tokens, its reply included; shorten it by "
                    f"at least {1 - room} tokens."
                )
            else:
                break
        return dropped

    def forget(self) -> bool:
        """Forget the oldest exchange, unless only the last message is left; whether there was one."""
        users = [i for i, m in enumerate(self.messages) if m.role == "user"]
        if len(users) > 1:
            del self.messages[users[0] : users[1]]
        return len(users) > 1

    def begin(self) -> tuple[Iterator[Event], int]:
        """The events of a reply, and how many exchanges were forgotten to make room for it."""
        dropped = self.fit()
        while True:
            try:
                return self.engine.stream(self.prompt(), self.sampling), dropped
            except TooLong:  # of a server whose context only it knows
                if not self.forget():
                    raise
                dropped += 1

    def reply(self, text: str, write: Write, note: Write) -> None:
        """Answer a message: the reply goes to `write` as it comes, one remark a call to `note`.

        On KeyboardInterrupt or UserError what was said so far stays in the conversation, a question without any answer
        is taken back, and the exception goes on its way.
        """
        self.messages.append(Message("user", text))
        self.sampling = replace(self.sampling, seed=self.sampling.seed + 1)  # the same question again is another try
        try:
            events, dropped = self.begin()
        except (KeyboardInterrupt, UserError):
            self.messages.pop()
            raise
        if dropped:
            note(f"[the context is full; forgot the oldest {dropped} exchange{'s' if dropped > 1 else ''}]")
        before, said, called = len(self.messages), "", ""
        try:
            for event in events:
                if event.kind == "text":
                    said += event.text
                    write(event.text)
                elif event.kind == "call":
                    called = describe(event.call, event.text)
                    self.messages.append(Message("assistant", said, event.call))
                    said = ""
                elif event.kind == "result":
                    note(f"{called} -> {event.text}")
                    self.messages.append(Message("tool", event.text))
                    called = ""
                elif event.completion is not None:
                    if called:
                        note(called)
                    self._finish(event.completion, before, note)
        except (KeyboardInterrupt, UserError):
            if said or len(self.messages) > before:
                self.messages.append(Message("assistant", said))
            else:
                self.messages.pop()  # nothing was said: the question is taken back
            raise

    def _finish(self, completion: Completion, before: int, note: Write) -> None:
        """Replace what was pieced together by the messages as the engine has them; tell if they break off."""
        self.messages[before:] = completion.messages or (Message("assistant", ""),)
        if completion.finish != "stop":
            note(f"[cut off: {CUT.get(completion.finish, completion.finish)}]")

    def command(self, line: str) -> str | None:
        """Obey a line that begins with a slash; what to print, or None to leave."""
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name in ("/quit", "/exit"):
            return None
        if name == "/help":
            return HELP
        if name == "/reset":
            self.messages = [m for m in self.messages if m.role == "system"]
            return "the conversation is forgotten"
        if name == "/system":
            self.messages = [Message("system", rest)] if rest else []
            return (
                "a new conversation under this system message"
                if rest
                else "a new conversation without a system message"
            )
        if name == "/temperature":
            try:
                self.sampling = replace(self.sampling, temperature=float(rest or self.sampling.temperature))
            except (ValueError, UserError):
                return f"temperature {rest!r} can't be; expected a number from 0 on, as in: /temperature 0.7"
            return f"the temperature is {self.sampling.temperature:g}"
        if name == "/tools":
            if rest in ("on", "off"):
                self.tools = tuple(self.engine.toolbox) if rest == "on" else ()
            elif rest:
                return f"tools {rest!r} can't be; expected: /tools on or /tools off"
            return f"its tools: {', '.join(self.tools) or 'none'}"
        return f"there is no command {name}; these are:\n{HELP}"


def describe(call: ToolCall | None, raw: str) -> str:
    """A call as people read it: '[calculator] 12 + 30'."""
    if call is None:
        return f"[malformed call] {raw}"
    return f"[{call.name}] {', '.join(str(value) for value in json.loads(call.arguments).values())}"


def open_chat(
    model: Path, sampling: Sampling, tools: bool = True, system: str = "", tool_file: Path | None = None
) -> Chat:
    """Load a model and begin a conversation. Raises UserError for a missing or damaged model or file of tools."""
    own = load_tools(tool_file) if tool_file else {}
    folder, world = find_model(model)
    gpt, tokenizer = load_hf(folder)
    toolbox = toolbox_for(world) | own
    messages = [Message("system", system)] if system else []
    return Chat(Resident(gpt, tokenizer, toolbox), tuple(toolbox) if tools else (), sampling, messages)


def open_remote(url: str, model: str, key: str, sampling: Sampling, tools: bool = True, system: str = "") -> Chat:
    """Begin a conversation with a model of a server. Raises UserError where nobody answers or the model isn't there."""
    from sprout.remote import Remote  # half a second, which talking to a model here needn't pay

    remote = Remote(url, model, key)
    messages = [Message("system", system)] if system else []
    return Chat(remote, remote.toolbox if tools else (), sampling, messages)


class Screen:
    """Where words and remarks go. Control characters, with which a text could repaint a terminal, are made visible."""

    def __init__(self, terminal: bool) -> None:
        self.remarks = sys.stdout if terminal else sys.stderr
        self.shared = terminal  # words and remarks meet on one screen, so that a remark begins on a new line
        self.in_line = False

    def write(self, text: str) -> None:
        """Words of a reply, at once."""
        sys.stdout.write(text.translate(CONTROL))
        sys.stdout.flush()
        self.in_line = not text.endswith("\n") if text else self.in_line

    def note(self, text: str) -> None:
        """A remark on a line of its own."""
        if self.shared:
            self.end()
        print(text.translate(CONTROL), file=self.remarks, flush=True)

    def end(self) -> None:
        """Finish the line."""
        if self.in_line:
            self.write("\n")


def read_lines(terminal: bool) -> Iterator[str | None]:
    """Messages from the standard input, a line each (several where lines end in a backslash); None for a Ctrl-C."""
    kept = ""
    while True:
        try:
            line = input(("... " if kept else "> ") if terminal else "")
        except EOFError:
            if kept:
                yield kept
            return
        except KeyboardInterrupt:
            if not terminal:
                raise
            kept = ""
            yield None
            continue
        if line.endswith("\\"):
            kept += line[:-1] + "\n"
        else:
            yield kept + line
            kept = ""


def answer(chat: Chat, text: str, screen: Screen) -> None:
    """One reply, ended by a new line."""
    chat.reply(text, screen.write, screen.note)
    screen.in_line = True  # an empty reply is a line as well
    screen.end()


def talk(chat: Chat, prompt: str | None = None) -> int:
    """Answer `prompt` once; or talk with whoever sits at the terminal; or answer a pipe, each line as the next message of
    one conversation (commands are obeyed there too). Returns the exit status: 1 if a line of a pipe could not be answered.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # whatever the bytes and the terminal's encoding, no crash
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    terminal = prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    screen = Screen(terminal)
    if prompt is not None:
        answer(chat, prompt, screen)
        return 0
    if terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (gives input() editing and a history)
        tools = f"; its tools: {', '.join(chat.tools)}" if chat.tools else ""
        reads = f"It reads {chat.engine.context} tokens{tools}. " if chat.engine.context else ""
        screen.note(f"{reads}/help for help, Ctrl-D to leave.")
    status = 0
    for line in read_lines(terminal):
        if line is None:
            print("\n(Ctrl-D leaves)")
        elif line.startswith("/") and not line.startswith("//"):
            told = chat.command(line)
            if told is None:
                return status
            screen.note(told)
        elif line.strip():
            try:
                answer(chat, line[1:] if line.startswith("//") else line, screen)
            except UserError as error:
                screen.note(f"[{error}]")
                status = 0 if terminal else 1
            except KeyboardInterrupt:
                if not terminal:
                    raise
                screen.in_line = True  # the terminal has echoed ^C
                screen.note("[stopped]")
    if terminal:
        print()
    return status
