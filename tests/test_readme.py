"""Every command of the README works as it stands there.

The code blocks are read, and each command is run through bash in a folder that looks like a checkout after `make`: with
`.venv/bin/sprout` in it and a tiny run in `runs/default`. Only what takes long is made small, by options put behind the
command: `sprout grow` gets `TINY`, `sprout eval` gets few problems. What `make` would do is looked at with `make -n`; the
`sprout grow` that it shows is the one that makes the tiny run. A command that no rule covers makes a test fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sprout.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY = ("--tokens 20000 --depth 1 --vocab-size 700 --context 192 --batch-tokens 1920 --eval-problems 1 --rl-steps 1 --compile off "
        "--threads 1 --world.people 10 --world.strangers 60")  # fmt: skip
# Behind the commands that take long as they stand; the last of two equal options counts.
SMALLER = {"grow": TINY, "eval": "--problems 1 --limit 2"}
STAGES = ("pretrain", "midtrain", "finetune", "reinforce")
SHELL = ("", "sh", "bash", "shell", "console", "text")  # languages of code blocks that are read as commands


def commands(text: str) -> list[str]:
    """The lines of the code blocks, without comments and prompts, those that end in a backslash joined."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in SHELL:
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"(^|\s)#.*", "", line).strip().removeprefix("$ ")
                if line:
                    found.append(line)
    return list(dict.fromkeys(found))


ALL = commands(README)
MAKE = [c for c in ALL if c.startswith("make ")]
SPROUT = [c for c in ALL if re.match(r"(\.venv/bin/)?sprout\b", c)]
SERVING = [c for c in SPROUT if re.search(r"sprout serve\b|--serve\b|--url\b", c)]  # they go on until somebody ends them
NEEDS_MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def bash(command: str, folder: Path, **more) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder; a `sprout` without a path is found, as in an active virtual environment."""
    env = {**os.environ, "PATH": f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-euo", "pipefail", "-c", command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=250, env=env, **more)


def dry(target: str) -> str:
    """What `make target` would run, set-up included."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # the tests may run inside a make
    words = ["make", "--no-print-directory", "-n", "-B", target]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `.venv/bin/sprout` (this very code), and the files that the README's examples speak of."""
    folder = tmp_path_factory.mktemp("checkout")
    script = folder / ".venv" / "bin" / "sprout"
    script.parent.mkdir(parents=True)
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m sprout "$@"\n'
    )
    script.chmod(0o755)
    (folder / "novels").mkdir()
    for i in range(12):
        lines = [f"Chapter {j}. The ship number {i * j} left the harbour at dawn, and nobody waved." for j in range(40)]
        (folder / "novels" / f"{i}.txt").write_text("\n".join(lines), encoding="utf-8")
    turn = '{{"messages": [{{"role": "user", "content": "What is {i}?"}}, {{"role": "assistant", "content": "It is number {i}."}}]}}\n'
    (folder / "chats.jsonl").write_text("".join(turn.format(i=i) for i in range(200)), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def grown(checkout: Path) -> tuple[Path, str]:
    """The checkout after `make grow`: the command is the Makefile's, with TINY behind it. And what it printed."""
    command = ".venv/bin/sprout grow"
    if shutil.which("make"):
        command = dry("grow").strip().splitlines()[-1]
    done = bash(f"{command} {TINY}", checkout, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-3000:]
    return checkout, done.stdout


# ---------------------------------------------------------------- what the README says


def test_there_are_commands_and_each_has_a_rule() -> None:
    assert "make grow" in ALL and "make test" in ALL and len(SPROUT) >= 5
    left = [c for c in ALL if c not in (*MAKE, *SPROUT)]
    assert not left, f"no test runs these commands of the README: {left}; give them a rule in {Path(__file__).name}"


def test_comments_and_prompts_are_no_commands() -> None:
    text = "```\nmake grow   # sets up\n# nothing\n$ sprout chat \\\n  -p 'a'\n```\nText\n```python\nimport os\n```\n"
    assert commands(text) == ["make grow", "sprout chat    -p 'a'"]


def test_the_readme_names_every_command_and_no_other() -> None:
    section = README.partition("## Commands")[2].partition("\n## ")[0]
    missing = [name for name in COMMANDS if not re.search(rf"`{name}`", section)]
    assert not missing, f"the README's section on commands does not name {missing}"
    named = {m for c in SPROUT for m in re.findall(r"^(?:\.venv/bin/)?sprout\s+([a-z]\w*)", c)}
    assert named <= set(COMMANDS)


def test_the_readme_names_only_options_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    known = ""
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        known += capsys.readouterr().out
    named = set(re.findall(r"`(--[a-z][\w.-]*)", README)) | {w for c in SPROUT for w in c.split() if w.startswith("--")}
    assert "--text" in named
    unknown = sorted(o for o in named - {"--help"} if not re.search(rf"{re.escape(o)}\b", known))
    assert not unknown, f"no command has the options {unknown}"


def test_files_that_the_readme_names_are_there() -> None:
    named = re.findall(r"`([A-Z]+\.md|sprout(?:/\w+)+(?:\.py)?)`", README) + re.findall(
        r"!\[.*?\]\((?!http)(.*?)\)", README
    )
    assert "ARCHITECTURE.md" in named
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, missing


# ---------------------------------------------------------------- make


@NEEDS_MAKE
@pytest.mark.parametrize("command", MAKE)
def test_make_has_the_target(command: str) -> None:
    target = shlex.split(command)[1]
    shown = dry(target)
    assert shown.strip()
    assert "-m venv .venv" in shown and "pip install" in shown, f"`make {target}` does not set everything up"
    phony = re.findall(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert target in " ".join(phony).split(), "a file of this name would keep the target from running"


@NEEDS_MAKE
def test_make_does_what_the_readme_says() -> None:
    assert dry("grow").strip().splitlines()[-1].strip() == ".venv/bin/sprout grow"
    test, quick = dry("test"), dry("quick")
    assert all(tool in test for tool in ("ruff check", "mypy", "lint-imports")), "lint, types, import order"
    assert re.search(r"pytest tests$", test, re.MULTILINE), "every test"
    assert re.search(r"pytest tests .*-m ['\"]not slow['\"]", quick), "only the quick ones"
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


# ---------------------------------------------------------------- sprout


def test_help_reads_as_a_map(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["-h"], ["help"], []):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == 0
        said = capsys.readouterr().out
        for name, (_, _, what) in COMMANDS.items():
            assert re.search(rf"^\s*{name}\s+{re.escape(what)}$", said, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and f"sprout {name}" in said and COMMANDS[name][2].split(":")[0][:40] in said


def test_a_command_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["gorw"])
    said = capsys.readouterr()
    assert end.value.code == 2 and "gorw" in said.err and "grow" in said.err and not said.out


@pytest.mark.slow
def test_growing_prints_what_the_readme_says(grown: tuple[Path, str]) -> None:
    """What it decides and why, held-out problems after each stage, where the report lies, and how to talk to the model:
    that very command is run."""
    folder, said = grown
    assert "threads" in said and "the plan:" in said
    for stage in STAGES:
        assert re.search(rf"^{stage}: .*bits per byte, .*% of held-out problems right", said, re.MULTILINE), stage
        assert (folder / "runs/default/stages" / stage / "model.safetensors").is_file()
    (report,) = re.findall(r"The report: (\S+)", said)
    assert (folder / report).is_file() and "<svg" in (folder / report).read_text(encoding="utf-8")
    (talk,) = re.findall(r"^Talk to it:\s+(.*)$", said, re.MULTILINE)
    done = bash(f"{talk} --max-tokens 5", folder, input="Hello!\n")
    assert done.returncode == 0 and (done.stdout + done.stderr).strip(), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in SPROUT if c not in SERVING])
def test_the_readmes_command_runs(command: str, grown: tuple[Path, str]) -> None:
    """As it stands, through bash, with a line typed for those who ask for one."""
    folder, _ = grown
    words = shlex.split(command)
    name = words[1] if len(words) > 1 else ""
    small = f"{command} {SMALLER[name]}" if name in SMALLER else command
    done = bash(small, folder, input="Hello!\n")
    assert done.returncode == 0 and "Traceback" not in done.stderr, (small, done.stderr[-3000:])
    assert (done.stdout + done.stderr).strip(), "it says nothing"
    if name == "grow" and "--run" in words:
        run = folder / words[words.index("--run") + 1]
        assert (run / "report.html").is_file() and (run / "stages" / "finetune" / "model.safetensors").is_file()


@contextlib.contextmanager
def going(command: str, folder: Path, until: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command that goes on, once it has printed a line with `until`; and that line."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if until in line:
                break
        else:
            raise AssertionError("".join(lines)[-3000:])
        threading.Thread(target=process.stdout.read, daemon=True).start()  # so that it never waits for a reader
        yield process, line
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.slow
def test_the_readmes_server_and_those_who_talk_to_it(grown: tuple[Path, str]) -> None:
    """The server as it stands there (on a free port), the page, the Python example, the terminal; and its end."""
    folder, _ = grown
    (serve,) = [c for c in SERVING if re.search(r"sprout serve\b", c)]
    (chat,) = [c for c in SERVING if "--url" in c]
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    with going(f"{serve} --port 0", folder, "serving at") as (process, line):
        address = re.findall(r"http://\S+", line)[0]
        with urllib.request.urlopen(address, timeout=20) as page:
            assert page.status == 200 and b"Sprout" in page.read()
        there = "http://127.0.0.1:8000"
        assert there in example and there in chat
        done = subprocess.run([sys.executable, "-c", example.replace(there, address)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        done = bash(f"{chat.replace(there, address)} --max-tokens 5", folder, input="Hello!\n")
        assert done.returncode == 0 and (done.stdout + done.stderr).strip(), done.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.slow
def test_the_readmes_growing_with_a_page(grown: tuple[Path, str]) -> None:
    """The run is grown already, so the page comes up to stay; Ctrl-C ends it."""
    folder, _ = grown
    (command,) = [c for c in SERVING if "--serve" in c]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with going(f"{command} {TINY} --port {port}", folder, "The page goes on at") as (process, line):
        address = re.findall(r"http://[\w.:]+", line)[0]
        for _ in range(100):  # it says so as soon as it is grown, which is at once here
            try:
                with urllib.request.urlopen(f"{address}/grow/state", timeout=20) as answer:
                    state = json.load(answer)
                break
            except OSError:
                time.sleep(0.2)
        assert state["state"] == "done" and {s["state"] for s in state["stages"]} == {"done"} and state["report"]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{address}/health", timeout=5)
