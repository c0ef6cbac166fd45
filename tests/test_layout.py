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


@pytest.mark.slow
def test_every_command_has_help():
    from sprout.cli import COMMANDS

    for command in COMMANDS:
        done = subprocess.run([sys.executable, "-m", "sprout", command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "usage" in done.stdout.lower(), (command, done.stderr[-500:])
