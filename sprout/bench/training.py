"""Training on a CPU: tokens/s of whole steps (forward, backward, optimizer), Sprout beside its peers in one run.

Each contender is a process of its own. All are started, one after the other, and take turns then; the median of the turns
counts, of each turn the median step. A step has the batch that our dial gives that size, for all of them. Between the turns the
machine multiplies matrices, the best of some, which is what a step would be if nothing else took time: `share` is the operations
that a contender's tokens take (`flops_per_token` of our shape, for all of them) over that rate. `first_step` is from the start of
the process to the end of its first step, compiled with an empty cache.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from sprout.bench.contenders import BF16, CONTENDERS, F32, NEEDS, SPROUT, made_up, name_of, products
from sprout.bench.parts import Absent, Row, Worker, environment, interpreter
from sprout.model import GPTConfig
from sprout.model.count import flops_per_token
from sprout.model.dial import dial, shape_of

SIZES = {"tiny": shape_of(1, 320, 32), "1M": shape_of(4, 1536, 256), "4M": shape_of(6, 4096, 256), "12M": shape_of(8, 8192, 256)}
TURNS = 5
PRODUCTS = "matrix products"


def job(contender: str, shape: dict[str, Any], rows: int) -> Generator[Any, dict[str, Any], None]:
    """Of `worker.py`: one contender. It has made its first step when it answers first; then steps for so many `seconds`."""
    if contender == PRODUCTS:
        best = max((F32, BF16), key=products)
        yield {"note": f"{name_of(best)}, the faster of float32 and bfloat16, 512 to 2048 wide"}
        while True:
            yield {"rate": products(best)}
    trainee = CONTENDERS[contender](GPTConfig(**shape))
    ids, targets = made_up(GPTConfig(**shape), rows)
    trainee.step(ids, targets, 0.01)
    asked = yield {"note": ", ".join([trainee.note, *(f"{p} {version(p)}" for p in NEEDS.get(contender.split()[0].strip(","), ()))])}
    while True:
        took, end = list[float](), time.perf_counter() + asked["seconds"]
        while not took or time.perf_counter() < end:
            began = time.perf_counter()
            trainee.step(ids, targets, 0.01)
            took.append(time.perf_counter() - began)
        asked = yield {"rate": ids.numel() / median(took)}


def rows_of(shape: GPTConfig) -> int:
    """Rows of a step, by the dial."""
    return dial(shape.layers, shape.vocab_size, shape.context).batch_tokens // shape.context


def turns(contenders: Sequence[str]) -> int:
    """How often `measure` tells that something is done."""
    return (len(contenders) + 1) * (2 + TURNS)


def measure(
    size: str, contenders: Sequence[str], seconds: float, threads: int, pythons: Sequence[Path] = (), tell: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """A row for each contender at a size of SIZES, `seconds` measured for each in all: contender, size, tokens_per_second (None:
    `note` has the reason), ratio (Sprout's speed over this one's), share and first_step. `tell` hears of each turn."""
    shape, rates, first, notes = SIZES[size], dict[str, list[float]](), dict[str, float](), dict[str, str]()
    with ExitStack() as stack:
        caches, workers = Path(stack.enter_context(tempfile.TemporaryDirectory())), dict[str, Worker]()
        for i, name in enumerate((*contenders, PRODUCTS)):
            tell(f"{size}: {name}, first step")
            needs = NEEDS.get(name.split()[0].strip(","), ())
            python = interpreter(pythons, ("torch", *needs) if needs else ())
            env = environment(threads, TORCHINDUCTOR_CACHE_DIR=str(caches / str(i)))
            began = time.perf_counter()
            worker = Worker(python, "sprout.bench.training:job", {"contender": name, "shape": asdict(shape), "rows": rows_of(shape)}, env)
            stack.callback(worker.close)
            try:
                notes[name] = worker.answer()["note"]
                first[name], workers[name] = time.perf_counter() - began, worker
            except Absent as why:
                notes[name] = f"absent: {why}"
        for turn in range(1 + TURNS):  # the first one warms up
            for name in (*contenders, PRODUCTS):
                tell(f"{size}: {name}")
                try:
                    if name in workers:
                        rate = workers[name].ask(seconds=min(1, seconds / TURNS) if not turn else seconds / TURNS)["rate"]
                        rates.setdefault(name, []).extend([rate] if turn else [])
                except Absent as why:
                    notes[name] = f"absent: {why}"
                    workers.pop(name).close()
                    rates.pop(name, None)
    speeds = {name: median(many) for name, many in rates.items()}
    mine, machine = speeds.get(SPROUT), speeds.get(PRODUCTS)
    rows: list[Row] = []
    for name in contenders:
        speed = speeds.get(name)
        rows.append({
            "contender": name, "size": size, "tokens_per_second": speed, "ratio": mine / speed if mine and speed else None,
            "share": speed * flops_per_token(shape) / machine if machine and speed else None,
            "first_step": first.get(name) if speed else None, "note": notes[name],
        })  # fmt: skip
    note = notes[PRODUCTS] + (f": {machine / 1e9:.0f} GFLOP/s on {threads} threads" if machine else "")
    limit = machine / flops_per_token(shape) if machine else None
    rows.append({
        "contender": PRODUCTS, "size": size, "tokens_per_second": limit, "ratio": mine / limit if mine and limit else None,
        "share": 1.0 if limit else None, "first_step": None, "note": note,
    })  # fmt: skip
    return rows


