"""The command line: one dict from command to function."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import NoReturn

# command: (module, function, what it does); in the order in which things happen
COMMANDS = {
    "grow": ("sprout.commands", "grow", "everything below, in order: from nothing to a chat"),
    "world": ("sprout.commands", "world", "look at the built-in world: documents, skills, facts, entropy"),
    "tokenizer": ("sprout.commands", "tokenizer", "train the run's tokenizer, or show how it cuts a text"),
    "pretrain": ("sprout.commands", "pretrain", "learn from documents"),
    "midtrain": ("sprout.commands", "midtrain", "learn the chat format, the tools and the skills"),
    "finetune": ("sprout.commands", "finetune", "learn from conversations, from the assistant's words only"),
    "reinforce": ("sprout.commands", "reinforce", "practise problems whose answers can be checked"),
    "eval": ("sprout.commands", "evaluate", "measure a model: skills, bits per byte, public benchmarks"),
    "report": ("sprout.commands", "report", "write a run's page again: report.html, report.md, report.json"),
    "export": ("sprout.commands", "export", "copy a stage as a Hugging Face folder"),
    "chat": ("sprout.commands", "chat", "talk to a model"),
    "serve": ("sprout.commands", "serve", "offer the models to programs and browsers"),
    "bench": ("sprout.commands", "bench", "measure speed beside others' own code, as ratios: a table and a picture"),
}

SHARED = ("grow", "pretrain", "midtrain", "finetune", "reinforce", "eval")  # what torchrun may start several times


def overview() -> str:
    """What `sprout --help` prints."""
    lines = ["usage: sprout COMMAND [options]      sprout COMMAND --help shows a command's options", ""]
    lines += [f"  {name:10} {what}" for name, (_, _, what) in COMMANDS.items()]
    return "\n".join([*lines, "", "To begin:  sprout grow, then  sprout chat"])


def say(error: BaseException, text: str) -> None:
    """Tell why it ends, unless another process of the same run tells it (`common/together.py`)."""
    if not getattr(error, "quiet", False):
        print(text, file=sys.stderr)


def leave(status: int) -> NoReturn:
    """End with this status. Where torchrun started several processes, without Python's own end: it aborts a thread of torch's that
    comes back meanwhile from a neighbour, or from the store, and torchrun then calls a good run failed (LOG.md)."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(argv: list[str] | None = None) -> None:
    """Run a command. Mistakes of the user, and what the system refuses, end with a sentence and status 2, Ctrl-C with
    130."""
    argv = sys.argv[1:] if argv is None else argv
    with contextlib.suppress(AttributeError):  # a file's name may hold bytes that are no characters; a pipe wants news too
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        sys.exit(0)
    if argv[0] == "--version":
        from sprout import __version__

        print(__version__)
        sys.exit(0)
    if argv[0] not in COMMANDS:
        print(f"sprout: there is no command {argv[0]!r}\n\n{overview()}", file=sys.stderr)
        sys.exit(2)
    module, function, what = COMMANDS[argv[0]]
    if os.environ.get("LOCAL_RANK") and os.environ.get("WORLD_SIZE", "1") != "1" and argv[0] not in SHARED:
        print(f"sprout: {argv[0]} is for one process, and torchrun started several; it is for {', '.join(SHARED)}.", file=sys.stderr)
        sys.exit(2)
    from sprout.common.errors import Interrupted, Lost, UserError

    try:
        import tyro

        run = getattr(importlib.import_module(module), function)
        status = tyro.cli(run, args=argv[1:], prog=f"sprout {argv[0]}", description=what)
        sys.stdout.flush()
    except UserError as error:
        say(error, f"sprout: {error}")
        leave(2)
    except Interrupted as stop:
        say(stop, f"\n{stop}")
        leave(130)
    except KeyboardInterrupt as stop:
        say(stop, "\nstopped; run the same command to go on")
        leave(130)
    except Lost as lost:
        say(lost, f"\nsprout: {lost}")
        leave(getattr(lost, "status", 75))
    except BrokenPipeError:  # `sprout world | head`: nobody reads on, and nothing is left to be flushed at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a full disk, no permission, a name that is too long: where no closer place explains it
        where = f"{error.filename}: " if error.filename else ""
        print(f"sprout: {where}{error.strerror or error}. Nothing that was saved is lost.", file=sys.stderr)
        leave(2)
    leave(status or 0)
