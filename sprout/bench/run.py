"""`sprout bench`: the parts one after the other, how far it is, and what it leaves: bench.json, bench.md, bench.png."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sprout.bench import quality, training
from sprout.bench.contenders import CONTENDERS
from sprout.bench.parts import Absent, Row, call, environment, interpreter
from sprout.bench.pictures import draw
from sprout.bench.tables import page
from sprout.common.compute import usable_cores
from sprout.common.errors import UserError
from sprout.common.files import check_folder, write_atomic, write_json

DECODING = (("1M", 1, 128), ("12M", 1, 128), ("100M", 1, 32), ("1M", 64, 128), ("12M", 64, 128), ("100M", 64, 64))  # size, chats, new tokens
DECODERS = ("llama_cpp", "gguf", "transformers")
TOKENIZERS = ("tiktoken", "rustbpe", "tokenizers", "fastokens", "gigatoken")
TOKENIZING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("encoding", {}), ("threads", {}), ("decoding", {}), ("learning", {"english_only": True}), ("learning", {}), ("extremes", {}),
)  # fmt: skip
PACKAGES = ("sprout", "torch", "numpy", "transformers", "litgpt", "llama-cpp-python", "gguf", *TOKENIZERS)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and how long. `seconds` are of training for each contender and size, `times` of quality's runs."""

    what: tuple[str, ...]
    data: Path | None
    out: Path
    seconds: float = 10
    sizes: tuple[str, ...] = ("1M", "4M", "12M")
    only: tuple[str, ...] = ()
    times: tuple[float, ...] = (60, 180, 300)
    seeds: int = 3
    threads: int = 0
    python: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [size for size in self.sizes if size not in training.SIZES]:
            raise UserError(f"there is no size {unknown[0]!r}; expected one of {', '.join(training.SIZES)}.")
        if self.only and not self.contenders():
            raise UserError(f"nobody is called {' or '.join(self.only)}; expected a part of one of: {', '.join(CONTENDERS)}.")
        if self.seconds <= 0 or self.seeds < 1 or self.threads < 0 or not self.times or min(self.times) <= 0:
            raise UserError("seconds and times must be above 0, seeds at least 1, threads at least 0.")
        for python in self.python:
            if not (python.is_file() and os.access(python, os.X_OK)):
                raise UserError(f"{python} is no program; name an interpreter, such as peers/bin/python.")
        if self.data is None and (needy := [part for part in self.what if part in ("quality", "tokenizers")]):
            raise UserError(f"{needy[0]} needs texts; name the folder of test data with --data, or leave {needy[0]} out.")
        if self.data is not None and not self.data.is_dir():
            raise UserError(f"{self.data} is no folder; expected the test data.")

    def contenders(self) -> tuple[str, ...]:
        """Who trains: all, or who is named, or has one of the words in the name."""
        known = {name.lower() for name in CONTENDERS}
        words = [word.lower() for word in self.only]
        return tuple(
            name for name in CONTENDERS if not words or any(w == name.lower() or (w not in known and w in name.lower()) for w in words)
        )


def bench(plan: Plan) -> dict[str, list[Row]]:
    """Measure, show and write it; the rows of every part. What was measured before is written even where a later part fails."""
    check_folder(plan.out)
    threads = plan.threads or usable_cores()
    parts: dict[str, list[Row]] = {}
    about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(threads), "versions": versions()}
    for part in dict.fromkeys(plan.what):
        parts[part] = MEASURE[part](plan, threads)
        print(page({part: parts[part]}))
        write_json(plan.out / "bench.json", about | {"parts": parts})
        write_atomic(plan.out / "bench.md", f"# sprout bench\n\n{page(parts, about)}")
    write_atomic(plan.out / "bench.png", draw(parts))
    print(f"the table: {plan.out / 'bench.md'}, the picture: {plan.out / 'bench.png'}, every figure: {plan.out / 'bench.json'}")
    return parts


@contextmanager
def progress(part: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar with the time left, which goes on with each call."""
    with tqdm(total=total, desc=part, mininterval=0.1) as bar:

        def tell(now: str) -> None:
            if tell.heard:  # type: ignore[attr-defined]  # what is announced begins; what was before is done
                bar.update()
            tell.heard = True  # type: ignore[attr-defined]
            bar.set_postfix_str(now)

        tell.heard = False  # type: ignore[attr-defined]
        yield tell
        bar.update(total - bar.n)


def measure_training(plan: Plan, threads: int) -> list[Row]:
    rows: list[Row] = []
    who = plan.contenders()
    with progress("training", len(plan.sizes) * training.turns(who)) as tell:
        for size in plan.sizes:
            rows += training.measure(size, who, plan.seconds, threads, plan.python, tell)
    return rows


def measure_quality(plan: Plan, threads: int) -> list[Row]:
    assert plan.data is not None
    who = tuple(name for name in quality.CONTENDERS if name in plan.contenders())
    with tempfile.TemporaryDirectory() as folder, progress("quality", quality.COUNTS * len(plan.times) * plan.seeds * len(who)) as tell:
        shape = quality.prepare(plan.data, Path(folder))
        return quality.measure(shape, Path(folder), plan.times, plan.seeds, threads, who, plan.python, tell)


def measure_decoding(plan: Plan, threads: int) -> list[Row]:
    rows: list[Row] = []
    with progress("decoding", len(DECODING)) as tell:
        for size, chats, new in DECODING:
            tell(f"{size}, {chats} chats")
            given = {"size": size, "chats": chats, "new": new, "threads": threads}
            try:
                rows += call(interpreter(plan.python, DECODERS), "sprout.bench.decoding:measure", given, environment(threads))
            except Absent as why:
                rows.append({"contender": "all", "size": size, "chats": chats, "tokens_per_second": None, "ratio": None, "note": f"absent: {why}"})
    return rows


def measure_tokenizers(plan: Plan, threads: int) -> list[Row]:
    """On one thread, but for the part that is about threads."""
    rows: list[Row] = []
    python, env = interpreter(plan.python, TOKENIZERS), environment(1, RAYON_NUM_THREADS="1")
    with progress("tokenizers", len(TOKENIZING)) as tell:
        for function, more in TOKENIZING:
            tell(function)
            given = {"data": str(plan.data and plan.data.absolute())} | more | ({"most": threads} if function == "threads" else {})
            try:
                rows += call(python, f"sprout.bench.tokenizers:{function}", given, env)
            except Absent as why:
                rows.append({"what": function, "contender": "all", "text": "", "value": None, "unit": "", "ratio": None, "note": f"absent: {why}"})
    return rows


MEASURE: dict[str, Callable[[Plan, int], list[Row]]] = {
    "training": measure_training, "quality": measure_quality, "decoding": measure_decoding, "tokenizers": measure_tokenizers,
}  # fmt: skip


def machine(threads: int) -> dict[str, Any]:
    """What it was measured on."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:  # not Linux
        pass
    return {"cpu": name, "threads": threads, "system": platform.system(), "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Of what is installed beside us; what other interpreters had stands in the rows' notes."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


