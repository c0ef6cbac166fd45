"""The layout is the syllabus: imports only point to what a reader has met."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_imports_point_backwards():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(lint)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_help_is_a_map():
    done = subprocess.run([sys.executable, "-m", "sprout", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for command in (
        "grow",
        "chat",
        "serve",
        "report",
        "world",
        "tokenizer",
        "eval",
        "export",
        "pretrain",
        "midtrain",
        "finetune",
        "reinforce",
    ):
        assert f"\n  {command} " in done.stdout


HELP = """
import os, sys, torch
from sprout.cli import COMMANDS, main
for name in COMMANDS:
    print("##", name, flush=True)
    if not os.fork():
        sys.exit(main([name, "--help"]))
    assert os.wait()[1] == 0, name
"""


@pytest.mark.slow
def test_every_command_has_help():
    """Each in a process that has loaded nothing of ours but the map of commands; torch, which takes longest, is loaded once."""
    from sprout.cli import COMMANDS

    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    said = dict(part.split("\n", 1) for part in done.stdout.split("## ")[1:])
    assert list(said) == list(COMMANDS) and all(f"sprout {name}" in text and "usage" in text.lower() for name, text in said.items())
