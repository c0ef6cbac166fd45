"""Talking in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sprout.common.errors import UserError
from sprout.common.files import read_json
from sprout.common.messages import Message, ToolCall
from sprout.engine import Completion, Engine, Prompt, Sampling, toolbox_for
from sprout.model.hf import load_hf
from sprout.tokenizer import prompt_ids
from sprout.world import World, WorldConfig, build_world

STAGES = ("reinforce", "finetune", "midtrain", "pretrain")
HELP = """/help            this text
/reset           forget the conversation
/system TEXT     set the system message (and reset)
/temperature X   0 always takes the likeliest word; 1 is lively
/tools on|off    let it use its tools, or not
/quit            leave (Ctrl-D does too); Ctrl-C stops a reply"""
ROOM = 60  # tokens kept free for the reply


def find_model(path: Path) -> tuple[Path, World | None]:
    """The folder of a model: a Hugging Face folder itself, or a run's last finished stage; and the run's world."""
    run = path
    if (path / "config.json").is_file() and (path / "model.safetensors").is_file():
        folder, run = path, path.parent.parent
    else:
        found = [path / "stages" / s for s in STAGES if (path / "stages" / s / "config.json").is_file()]
        if not found:
            raise UserError(f"there is no model in {path}; expected a run (runs/NAME) or a Hugging Face folder. Grow one with: sprout grow")
        folder = found[0]
    world = None
    if (run / "world.json").is_file():
        world = build_world(WorldConfig(**read_json(run / "world.json")))
    return folder, world


@dataclass(slots=True)
class Chat:
    """A conversation and the engine that goes on with it."""

    engine: Engine
    tools: tuple[str, ...]
    sampling: Sampling
    messages: list[Message]

    def fit(self, say: Callable[[str], None]) -> None:
        """Drop the oldest exchanges until prompt and reply have room; says so. Raises UserError if the last message
        alone is too long."""
        context = self.engine.model.config.context
        dropped = 0
        while len(prompt_ids(self.engine.tokenizer, self.messages, self.tools)) + ROOM > context:
            start = 1 if self.messages[0].role == "system" else 0
            users = [i for i, m in enumerate(self.messages) if m.role == "user"]
            if len(users) < 2:
                self.messages.pop()
                raise UserError(f"that is too long: the model reads {context} tokens, reply included; say it shorter.")
            del self.messages[start : users[1]]
            dropped += 1
        if dropped:
            say(f"[the context is full: the oldest {dropped} exchange{'s' * (dropped > 1)} forgotten]")

    def reply(self, text: str, write: Callable[[str], None], say: Callable[[str], None]) -> None:
        """Answer `text`, writing the reply as it comes. Ctrl-C stops it; what was said so far stays."""
        self.messages.append(Message("user", text))
        self.fit(say)
        self.sampling = replace(self.sampling, seed=self.sampling.seed + 1)
        said = ""
        try:
            for kind, value in self.engine.stream(Prompt(tuple(self.messages), self.tools), self.sampling):
                if kind == "text":
                    said += str(value)
                    write(str(value))
                elif kind == "call" and isinstance(value, ToolCall):
                    write(f"[{value.name} {value.arguments}")
                elif kind == "result":
                    write(f" -> {value}]\n")
                elif isinstance(value, Completion):
                    self.messages += value.messages
                    if value.finish != "stop":
                        say(f"\n[cut off: {'the context is full' if value.finish == 'context' else 'the reply got too long'}]")
        except KeyboardInterrupt:
            self.messages.append(Message("assistant", said))
            say("\n[stopped]")
        write("\n")

    def command(self, line: str) -> str | None:
        """Obey a line that begins with a slash; what to print, or None to leave."""
        name, _, rest = line.partition(" ")
        if name in ("/quit", "/exit"):
            return None
        if name == "/reset":
            self.messages = [m for m in self.messages if m.role == "system"]
            return "forgotten"
        if name == "/system":
            self.messages = [Message("system", rest)] if rest else []
            return "system message set" if rest else "system message removed"
        if name == "/temperature":
            try:
                self.sampling = replace(self.sampling, temperature=float(rest))
            except (ValueError, UserError):
                return "expected a number from 0 on, as in /temperature 0.7"
            return f"temperature {self.sampling.temperature:g}"
        if name == "/tools":
            if rest not in ("on", "off"):
                return "expected /tools on or /tools off"
            self.tools = tuple(self.engine.toolbox) if rest == "on" else ()
            return f"tools: {', '.join(self.tools) or 'none'}"
        return HELP


def open_chat(model: Path, sampling: Sampling, tools: bool, system: str) -> Chat:
    """Load a model and begin a conversation."""
    folder, world = find_model(model)
    gpt, tokenizer = load_hf(folder)
    toolbox = toolbox_for(world)
    return Chat(Engine(gpt, tokenizer, toolbox), tuple(toolbox) if tools else (), sampling, [Message("system", system)] if system else [])


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def talk(chat: Chat, prompt: str | None, lines: Sequence[str] | None = None) -> int:
    """Answer `prompt` once; or every line of a pipe; or talk with whoever sits at the terminal."""
    if prompt is not None:
        chat.reply(prompt, _write, lambda text: print(text, file=sys.stderr))
        return 0
    terminal = sys.stdin.isatty()
    if terminal:
        import contextlib

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (gives input() a history and editing)
        print("Talk to it; /help for help, Ctrl-D to leave.")
    while True:
        try:
            line = input("> " if terminal else "").strip()
        except EOFError:
            break
        except KeyboardInterrupt:
            print()
            continue
        if not line:
            continue
        if line.startswith("/"):
            answer = chat.command(line)
            if answer is None:
                break
            print(answer)
            continue
        try:
            chat.reply(line, _write, print)
        except UserError as error:
            print(f"[{error}]")
    return 0
