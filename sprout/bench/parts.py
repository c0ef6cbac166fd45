"""Processes of their own for what is measured: nobody shares a compiler's cache, a memory allocator or threads with anybody,
and each may have the interpreter in which its packages are installed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]


class Absent(Exception):
    """Why a contender can't run here."""


def environment(threads: int, **more: str) -> dict[str, str]:
    """That of a process with so many threads that finds this very package."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"} | more


def interpreter(pythons: Sequence[Path], needs: Sequence[str], threads: int = 1) -> Path:
    """The one of these and ours that has the most of the packages needed; ours where that's a draw, then the first."""
    ask = "import importlib.util as u, sys; print(sum(u.find_spec(name) is not None for name in sys.argv[1:]))"
    best, most = Path(sys.executable), -1
    for python in (Path(sys.executable), *pythons) if needs else (Path(sys.executable),):
        done = subprocess.run([python, "-c", ask, *needs], capture_output=True, text=True, env=environment(threads))
        found = int(done.stdout) if done.returncode == 0 else -1
        if found > most:
            best, most = python.absolute(), found  # its process works elsewhere
    return best


class Worker:
    """A job of `worker.py` in a process of its own. What it says on the way is kept in a file, for when it fails."""

    def __init__(self, python: Path, job: str, given: dict[str, Any], env: dict[str, str]) -> None:
        self._said = tempfile.TemporaryFile("w+", errors="replace")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [python, "-m", "sprout.bench.worker"], stdin=pipe, stdout=pipe, stderr=self._said, text=True, env=env, cwd=tempfile.gettempdir()
        )
        self._send({"job": job, "given": given})

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended; `answer` says why
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """Wait for what it says next. Raises Absent where it can't do the job, or ended without a word."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._said.seek(0)
            last = [words for words in self._said.read().splitlines() if words.strip()]
            raise Absent(f"its process ended with {self._process.returncode}: {last[-1][:200] if last else 'without a word'}")
        answer = json.loads(line)
        if "absent" in answer:
            raise Absent(answer["absent"])
        return answer["value"]

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for the answer."""
        self._send(request)
        return self.answer()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def call(python: Path, function: str, given: dict[str, Any], env: dict[str, str]) -> Any:
    """What `module:function` returns for the arguments given, called in a process of its own. Raises Absent."""
    with Worker(python, "sprout.bench.worker:call", {"function": function, "given": given}, env) as worker:
        return worker.answer()
