"""How far a run is, for who watches: made of `live.jsonl` (which `sprout/journal.py` writes), `plan.json` and the stages'
`stage.json`. Whatever of these is missing, half written or nonsense is passed over. Read `LiveRun.state` first."""

from __future__ import annotations

import json
import math
import platform
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

STAGES = ("pretrain", "midtrain", "finetune", "reinforce")
POINTS = 400  # of a curve
SAMPLES = 12
MOST = 1 << 24  # bytes of the journal read at once; a sound one is smaller
PACE = 20  # steps' lines that tell how fast it goes now
FAR_AWAY = 600.0  # seconds without a line after which a run on another host counts as stopped
DATA_TOKENS_PER_S = 300_000  # making of rows, as the plan reckons
CHOOSING, PRACTISED = 1.0, 0.4  # what reinforcement evaluates before and after its steps, in evaluations of a stage


def number(x: Any, least: float = 0.0) -> float | None:
    """A finite number of a reasonable size, at least `least`; else None."""
    if isinstance(x, bool) or not isinstance(x, int | float):
        return None
    return float(x) if least <= x <= 1e15 else None


def whole(x: Any) -> int:
    return int(number(x) or 0)


def words(x: Any) -> str:
    """Text that can be sent as UTF-8; empty for what is none."""
    return x.encode("utf-8", "replace").decode() if isinstance(x, str) else ""


def mapping(x: Any) -> dict[str, Any]:
    return x if isinstance(x, dict) else {}


def thin(points: Sequence[Any], most: int = POINTS) -> list[Any]:
    """At most `most` of the points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def curve_of(entries: Any, name: str) -> list[tuple[int, float]]:
    """(step, value) of the entries of a stage.json that have both."""
    found = []
    for e in entries if isinstance(entries, list) else ():
        value = number(mapping(e).get(name), -1e15)
        if value is not None:
            found.append((whole(e.get("step")), value))
    return found


@dataclass(slots=True)
class Heard:
    """What the journal told of a stage. A sitting is what one process did."""

    phase: str = "waiting"  # then running, evaluating, done
    step: int = 0
    steps: int = 0
    spent: float = 0.0  # seconds, in earlier sittings
    since: float = 0.0  # when it began in this sitting
    changed: float = 0.0  # when a step or another phase was told
    curve: list[tuple[int, float]] = field(default_factory=list)
    pace: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=PACE))  # (step, seconds), this sitting
    samples: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def begin(self, now: float, steps: int) -> None:
        if self.phase == "done":  # once more, from the beginning
            self.step, self.spent, self.curve = 0, 0.0, []
            self.samples.clear()
        self.phase, self.steps, self.since, self.changed = "running", steps, now, now
        self.pace.clear()

    def reach(self, now: float, step: int, value: float | None, seconds: float) -> None:
        self.phase, self.changed = "running", now
        while self.curve and self.curve[-1][0] >= step:  # steps that were lost when the run was killed
            self.curve.pop()
        if value is not None:
            self.curve.append((step, value))
        self.step = step
        self.pace.append((step, seconds))

    def seconds_per_step(self) -> float | None:
        """Of late, in this sitting; None where less than two lines tell."""
        if len(self.pace) < 2:
            return None
        (first, start), (last, end) = self.pace[0], self.pace[-1]
        return (end - start) / (last - first) if last > first and end > start else None


@dataclass(slots=True)
class Told:
    """Everything the journal told, line by line."""

    stages: dict[str, Heard] = field(default_factory=lambda: {name: Heard() for name in STAGES})
    active: str | None = None  # the stage that is worked on
    open: bool = False  # a process took the run up and did not say that it left
    grown: bool = False
    pid: int = 0
    host: str = ""
    born: float | None = None
    last: float = 0.0  # time of the last line
    tokens_per_s: float | None = None
    plan: dict[str, Any] = field(default_factory=dict)

    def hear(self, line: bytes) -> None:
        """Take in a line; nonsense is passed over."""
        try:
            event = mapping(json.loads(line))
        except (ValueError, RecursionError):
            return
        kind, now = event.get("event"), number(event.get("time"))
        if not isinstance(kind, str) or now is None:
            return
        if kind == "started":
            self._leave()  # it was killed
            self.open, self.grown, self.tokens_per_s = True, False, None
            self.pid, self.host, self.born = whole(event.get("pid")), words(event.get("host")), number(event.get("born"))
        elif kind == "planned":
            self.plan = event
        elif kind in ("grown", "stopped"):
            self.last = now
            self._leave()
            self.open, self.grown = False, kind == "grown"
        else:
            self._hear_of_stage(kind, now, event)
        self.last = now

    def _hear_of_stage(self, kind: str, now: float, event: dict[str, Any]) -> None:
        name = event.get("stage")
        stage = self.stages.get(name) if isinstance(name, str) else None
        if stage is None:
            return
        step, steps = whole(event.get("step")), whole(event.get("steps"))
        if kind == "sample":
            said = {"stage": name, "step": step, "prompt": words(event.get("prompt")), "reply": words(event.get("reply"))}
            stage.samples.append(said)
        elif kind == "done":
            stage.spent += max(0.0, now - stage.since) if self.active == name else 0.0
            stage.phase, self.active = "done", None
        elif kind == "stage":
            self._leave()
            stage.begin(now, steps)
            self.active = name
        elif kind == "step" and self.active == name:
            value = number(event.get("reward" if name == "reinforce" else "loss"), -1e15)
            stage.reach(now, step, value, number(event.get("seconds")) or 0.0)
            self.tokens_per_s = number(event.get("tokens_per_s"))
        elif kind == "evaluating" and self.active == name:
            stage.phase, stage.changed = "evaluating", now

    def _leave(self) -> None:
        """Work on the active stage ended with the last line."""
        if self.active is not None:
            stage = self.stages[self.active]
            stage.spent += max(0.0, self.last - stage.since)
            stage.pace.clear()
            self.active = None

    def alive(self) -> bool:
        """Whether the process that works on the run does so still."""
        if not self.open:
            return False
        if self.host != platform.node():
            return time.time() - self.last < FAR_AWAY
        try:
            process = psutil.Process(self.pid)
            # Another process may have got the number since; clocks are put right by less than a minute.
            same = self.born is None or abs(process.create_time() - self.born) < 60
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.AccessDenied:
            return True
        except (psutil.Error, OSError, OverflowError, ValueError):
            return False


@dataclass(slots=True)
class Record:
    """A stage.json as it was read, and when it was written."""

    mark: tuple[int, int] = (0, 0)  # mtime in ns and size
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def written(self) -> float:
        return self.mark[0] / 1e9

    def read(self, path: Path) -> dict[str, Any]:
        """The content; read again only if it changed. Empty for what is no stage.json."""
        try:
            stat = path.stat()
            mark = stat.st_mtime_ns, stat.st_size
            if mark != self.mark:
                self.mark, self.content = mark, {}
                self.content = mapping(json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError):
            self.content = {}
        return self.content


class LiveRun:
    """A run that may be growing. `state` reads only what is new since the last call."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.lock = threading.Lock()  # a server asks from several threads
        self.told, self.offset, self.head = Told(), 0, b""
        self.plan = Record()
        self.records = {name: Record() for name in STAGES}

    def state(self) -> dict[str, Any]:
        """What `GET /grow/state` answers; every stage has a curve, an empty one where there is nothing yet."""
        with self.lock:
            self._listen()
            now, told = time.time(), self.told
            growing = told.alive()
            records = {name: r.read(self.run / "stages" / name / "stage.json") for name, r in self.records.items()}
            done = {name for name in STAGES if records[name] and self._is_done(name, growing)}
            plan = mapping(told.plan.get("plan")) or self.plan.read(self.run / "plan.json")
            stages = [self._stage(name, records[name], done, growing, plan, now) for name in STAGES]
            curves = {}
            for name in STAGES:
                kind = "reward" if name == "reinforce" else "loss"
                points = curve_of(records[name].get("rl" if name == "reinforce" else "curve"), kind) if name in done else []
                points = thin(points or told.stages[name].curve)
                curves[name] = {"step": [step for step, _ in points], kind: [value for _, value in points]}
            grown = not growing and (told.grown or len(done) == len(STAGES))
            return {
                "run": words(self.run.absolute().name),
                "state": "growing" if growing else "done" if grown else "stopped",
                "stage": told.active if growing else None,
                "seconds_left": self._seconds_left(stages, records, plan, now) if growing else None,
                "tokens_per_s": told.tokens_per_s if growing else None,
                "stages": stages,
                "curves": curves,
                "samples": self._samples(records, done),
                "report": (self.run / "report.html").is_file(),
            }

    def _listen(self) -> None:
        """Take in the journal's new lines; from the beginning where it is another file now."""
        try:
            with (self.run / "live.jsonl").open("rb") as file:
                head = file.readline(300)
                size = file.seek(0, 2)
                if head != self.head or size < self.offset:
                    self.told, self.offset, self.head = Told(), 0, head
                file.seek(self.offset)
                new = file.read(MOST)
        except (OSError, ValueError):
            self.told, self.offset, self.head = Told(), 0, b""
            return
        end = new.rfind(b"\n") + 1 or (len(new) if len(new) == MOST else 0)  # the last line may be half written
        for line in new[:end].split(b"\n"):
            self.told.hear(line)
        self.offset += end

    def _is_done(self, name: str, growing: bool) -> bool:
        """Whether a stage's stage.json counts: not where it, or one before, is being done again."""
        stage, active = self.told.stages[name], self.told.active
        if growing and active and STAGES.index(name) > STAGES.index(active):
            return False
        return stage.phase in ("waiting", "done") or self.records[name].written >= stage.since

    def _stage(
        self, name: str, record: dict[str, Any], done: set[str], growing: bool, plan: dict[str, Any], now: float
    ) -> dict[str, Any]:
        heard = self.told.stages[name]
        active = growing and self.told.active == name
        steps = whole(record.get("steps")) if name in done else heard.steps or whole(plan.get(name))
        seconds = heard.spent + (max(0.0, now - heard.since) if active else 0.0)
        if name in done and not seconds:
            seconds = sum(number(record.get(k)) or 0.0 for k in ("seconds", "data_seconds", "eval_seconds"))
        rates = [number(mapping(v).get("rate")) for v in mapping(record.get("skills")).values()]
        known = [r for r in rates if r is not None]
        return {
            "name": name,
            "state": "done" if name in done else heard.phase if active and heard.phase != "done" else "waiting",
            "step": steps if name in done else heard.step,
            "steps": steps,
            "seconds": round(seconds, 1),
            "score": sum(known) / len(known) if known and name in done else None,
            "bpb": number(record.get("val_bpb")) if name in done else None,
        }

    def _seconds_left(
        self, stages: list[dict[str, Any]], records: dict[str, dict[str, Any]], plan: dict[str, Any], now: float
    ) -> float | None:
        """Steps that are left times how long one took of late (before the first: as when the plan was made), the making of
        rows, and the evaluations: each as long as that of the last stage (pretraining's are shorter) or as planned."""
        told = self.told
        per_step = whole(told.plan.get("tokens_per_step"))
        measured = number(plan.get("tokens_per_s"))
        paces = {name: told.stages[name].seconds_per_step() for name in STAGES}
        training = next((paces[n] for n in ("finetune", "midtrain", "pretrain") if paces[n]), None)
        if training is None and per_step and measured:
            training = per_step / measured
        evaluation = number(told.plan.get("evaluation_seconds")) or 0.0
        for i, name in enumerate(STAGES[:3]):
            if stages[i]["state"] == "done" and (took := number(records[name].get("eval_seconds"))):
                evaluation = max(evaluation, took) if name == "pretrain" else took
        left = 0.0
        for i, name in enumerate(STAGES):
            stage, heard = stages[i], told.stages[name]
            if stage["state"] == "done":
                continue
            pace = paces[name] or (number(told.plan.get("reinforce_step_seconds")) if name == "reinforce" else training)
            steps = max(0, stage["steps"] - stage["step"])
            if pace is None:
                return None
            before = evaluation * CHOOSING if name == "reinforce" else stage["steps"] * per_step / DATA_TOKENS_PER_S
            after = evaluation * (1 + PRACTISED if name == "reinforce" else 1)
            passed = max(0.0, now - heard.changed)  # counts for the part that is under way
            if stage["state"] == "waiting":
                left += before + steps * pace + after
            elif heard.phase == "evaluating" and heard.pace:
                left += max(0.0, after - passed)
            elif heard.pace:
                left += max(0.0, steps * pace - passed) + after
            else:
                left += max(0.0, before - passed) + steps * pace + after
        return round(left, 1) if math.isfinite(left) else None

    def _samples(self, records: dict[str, dict[str, Any]], done: set[str]) -> list[dict[str, Any]]:
        """The newest first: what the journal has, and of a stage that nobody watched the first of its answers."""
        found: list[dict[str, Any]] = []
        for name in STAGES:
            fresh = list(self.told.stages[name].samples)
            kept = records[name].get("samples") if name in done and not fresh else None
            for x in kept[:2] if isinstance(kept, list) else ():
                said = {k: words(mapping(x).get(k)) for k in ("prompt", "reply")}
                fresh.append({"stage": name, "step": whole(records[name].get("steps")), **said})
            found += fresh
        return found[::-1][:SAMPLES]


def grow_state(run: Path) -> dict[str, Any]:
    """The state of a run, read once. Who asks again and again keeps a `LiveRun`."""
    return LiveRun(run).state()
