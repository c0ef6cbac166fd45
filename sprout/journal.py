"""What a run tells while it runs: a JSON line per event, appended to `runs/NAME/live.jsonl` for whoever watches.

Nothing here decides what is trained; training goes on where a line can't be written. Every line has `event` and `time`
(seconds since 1970). The events, in the order in which they come:

- `started` (pid, host, born: when that process began): a command took the run up; what stands before is of earlier ones
- `planned` (plan: steps by stage; tokens_per_step; evaluation_seconds, reinforce_step_seconds: what the plan reckons with)
- `stage` (stage, steps): it begins, or goes on
- `step` (stage, step, steps, loss in nats or reward, tokens_per_s, seconds of training; waited: seconds that steps of this
  process waited for a corpus that streams, where they did), at most one a second
- `sample` (stage, step, prompt, reply)
- `evaluating` (stage): until the next `step` or `done`
- `done` (stage, score: share of held-out problems right, every skill counting alike; bpb: bits per byte; seconds of
  training; null where there is none, and for a stage that was done before)
- `grown`, or `stopped` (reason); neither where the process was killed

Nothing is written until there is work, so that a run that refuses to go on stays as it was.

Read by `report/live.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from sprout.common.errors import UserError
from sprout.common.files import write_atomic

STEP_SECONDS = 1.0  # between two `step` lines
LARGEST = 1 << 20  # bytes; a larger journal loses every second `step` and the older half of the samples
LONGEST = 2000  # characters of a prompt or a reply
BEFORE_WORK = ("started", "planned", "done")


class Journal:
    """Appends events to `path`. A line that can't be written is lost, and `say` is told so once; nothing is raised.

    As a context (`with journal:`) it tells why the run stopped when an exception leaves it.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = print, fresh: bool = False) -> None:
        """`fresh` forgets, once there is work, what is there, which another run left."""
        self.path, self.say = path, say
        self.failed = False
        self.torn = True  # the file may end within a line: of a process that was killed, or on a full disk
        self.largest = LARGEST
        self.stepped = -STEP_SECONDS
        self.fresh = fresh
        self.held_back: list[str] | None = []  # until there is work
        born = None
        with contextlib.suppress(psutil.Error, OSError):
            born = psutil.Process().create_time()
        self.write("started", pid=os.getpid(), host=platform.node(), born=born)

    def planned(self, plan: dict[str, Any], tokens_per_step: int, evaluation: float, reinforce_step: float) -> None:
        """How much there is to do; the last two are the seconds that the plan reckons with."""
        self.write("planned", plan=plan, tokens_per_step=tokens_per_step, evaluation_seconds=evaluation,
                   reinforce_step_seconds=reinforce_step)  # fmt: skip

    def stage(self, stage: str, steps: int) -> None:
        self.write("stage", stage=stage, steps=steps)

    def step(self, stage: str, step: int, steps: int, tokens_per_s: float, seconds: float, **value: float) -> None:
        """`value` is `loss` or `reward`, and `waited`; left out where less than a second passed since the last one."""
        now = time.monotonic()
        if now - self.stepped < STEP_SECONDS and step < steps:
            return
        self.stepped = now
        numbers = {name: round(x, 5) for name, x in value.items()}
        self.write("step", stage=stage, step=step, steps=steps, **numbers, tokens_per_s=round(tokens_per_s, 1),
                   seconds=round(seconds, 3))  # fmt: skip

    def sample(self, stage: str, step: int, prompt: str, reply: str) -> None:
        self.write("sample", stage=stage, step=step, prompt=prompt[:LONGEST], reply=reply[:LONGEST])

    def evaluating(self, stage: str) -> None:
        self.write("evaluating", stage=stage)

    def done(self, stage: str, score: float | None = None, bpb: float | None = None, seconds: float | None = None) -> None:
        """For a stage that was done before all are None: they stand in its stage.json."""
        self.write("done", stage=stage, score=score, bpb=bpb, seconds=seconds)

    def grown(self) -> None:
        self.write("grown")

    def stopped(self, reason: str) -> None:
        self.write("stopped", reason=reason[:LONGEST])

    def write(self, event: str, **facts: Any) -> None:
        """Append one line; not synced, which would take longer than a step."""
        try:
            line = json.dumps({"event": event, "time": round(time.time(), 3), **facts}) + "\n"
            if self.held_back is not None:
                if event in BEFORE_WORK:
                    self.held_back.append(line)
                    return
                if event == "stopped":
                    return
                line, self.held_back = "".join([*self.held_back, line]), None
                self.path.parent.mkdir(parents=True, exist_ok=True)
                if self.fresh:
                    self.path.unlink(missing_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            try:
                size = os.fstat(handle).st_size
                content = (("\n" if self.torn and size else "") + line).encode()
                self.torn = True  # until it is known that all was written
                self.torn = os.write(handle, content) < len(content)
            finally:
                os.close(handle)
            if size + len(content) > self.largest:
                self.shrink()
        except (OSError, UserError, ValueError, TypeError) as error:
            if not self.failed:
                self.say(f"note: {self.path} can't be written ({error}); who watches sees less, the run goes on")
            self.failed = True

    def shrink(self) -> None:
        """Drop every second `step` and the older half of the samples, so that the file stays small however long a run is."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        steps = [i for i, line in enumerate(lines) if line.startswith(b'{"event": "step"')]
        samples = [i for i, line in enumerate(lines) if line.startswith(b'{"event": "sample"')]
        dropped = {*steps[:-1:2], *samples[: len(samples) // 2]}
        kept = b"".join(line for i, line in enumerate(lines) if i not in dropped)
        self.largest = max(LARGEST, len(kept) * 5 // 4)  # where little can be dropped, not again at every line
        write_atomic(self.path, kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.stopped("Ctrl-C")
        elif error is not None:
            self.stopped(str(error) or type(error).__name__)


class NoJournal(Journal):
    """Of a process that is not the first: who watches hears of the first one only."""

    def write(self, event: str, **facts: Any) -> None:
        pass
