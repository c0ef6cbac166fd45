"""Time to quality: bits per byte of held-out novels after so many seconds of training, at about 4M parameters on a CPU.

Everybody has the same text, tokenizer, rows of 256 tokens and clock. The clock stands still while the first step compiles
and while bits are counted; a run is made for each of the times, since the learning rate is to fall to nothing at its end.
What is tuned for runs as short as these stands in `BATCH`, `FALL` and, ours, in `RATES` (how it was found: LOG.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from sprout.bench.parts import Absent, Row, Worker, environment, interpreter
from sprout.common.errors import UserError
from sprout.model.config import GPTConfig
from sprout.model.dial import shape_of

VOCABULARY, CONTEXT, DEPTH = 4096, 256, 6
HELD_OUT = 200  # rows that bits are counted on
BATCH = {"Sprout": 16, "nanochat by Hugging Face": 16, "nanochat by Hugging Face, bfloat16": 16}  # rows of a step
# The share of the run over which the learning rate falls; nanochat's begins at its peak, ours rises first, as in the recipe.
FALL = {"Sprout": 1.0, "nanochat by Hugging Face": 0.5, "nanochat by Hugging Face, bfloat16": 0.5}
# Of the dial's rates. Where pairs are learned first, embedding and head are nearly done, and matrices have few steps to go far.
RATES: dict[str, Any] = {"matrix": 3.5, "embed": 0.1, "head": 0.1, "momentum": 0.9, "pairs": True}
CONTENDERS = tuple(BATCH)
COUNTS = 2  # what `measure` tells of each run: that it begins, that it trains


def prepare(data: Path, folder: Path, depth: int = DEPTH, vocabulary: int = VOCABULARY, context: int = CONTEXT) -> GPTConfig:
    """Cut the novels into rows, in `folder`, with a tokenizer learned from those to train on; the model's shape."""
    from sprout.data import pack
    from sprout.tokenizer import Tokenizer

    texts = {part: novels(data, part) for part in ("train", "validation")}
    tokenizer = Tokenizer.train(texts["train"], vocabulary)
    tokenizer.save(folder)
    border = np.array([tokenizer.specials["<|endoftext|>"]], np.uint32)
    for part, some in texts.items():
        items = [(np.concatenate([border, tokenizer.encode_array(text), border]), None) for text in some]
        pack(items, context, int(border[0])).save(folder / part)
    return shape_of(depth, tokenizer.vocab_size, context)


def novels(data: Path, part: str) -> list[str]:
    """The chapters of `text/eltec_eng` in the folder of data. Raises UserError where it isn't there."""
    import pyarrow.parquet as pq

    files = sorted((data / "text" / "eltec_eng" / "data").glob(f"{part}-*.parquet"))
    if not files:
        raise UserError(f"{data} has no text/eltec_eng/data/{part}-*.parquet; name the folder of test data with --data.")
    return [text for file in files for text in pq.read_table(file, columns=["text"]).column("text").to_pylist()]


def multiplier(done: float, warm: float, fall: float) -> float:
    """Of the learning rate when `done` of the run is over: it rises in the first `warm`, and falls to 0 in the last `fall`."""
    return min(1.0, (done + 1e-3) / warm if warm else 1.0, max(0.0, 1 - done) / fall if fall else 1.0)


def job(contender: str, shape: dict[str, Any], folder: str, seconds: float, seed: int) -> Generator[Any, dict[str, Any], None]:
    """Of `worker.py`: one run. The first answer when it is ready, the second is its row's."""
    import torch

    from sprout.bench import contenders
    from sprout.data import Packed, batch_rows, get_batch
    from sprout.tokenizer import Tokenizer

    torch.manual_seed(seed)
    config, rows = GPTConfig(**shape), BATCH[contender]
    data, held_out = Packed.load(Path(folder) / "train"), Packed.load(Path(folder) / "validation")

    def new(tokens: int) -> contenders.Trainee:
        if contender != "Sprout":
            return contenders.CONTENDERS[contender](config)
        return contenders.ours(config, "auto", tokens, seed, contenders.Rates(rows, **RATES))

    took: list[float] = []
    trainee, rehearsal = new(0), time.perf_counter()
    while len(took) < 3 or (len(took) < 20 and time.perf_counter() - rehearsal < min(3, seconds / 4)):
        began = time.perf_counter()
        batch = get_batch(data, batch_rows(len(data), rows, len(took), seed))
        trainee.step(batch.ids, batch.targets, 0.0)
        took.append(time.perf_counter() - began)
        rehearsal = rehearsal if len(took) > 1 else time.perf_counter()  # the first step compiles
    steps, warm = max(1, int(seconds / float(np.median(took[1:])))), 0.0
    if contender == "Sprout":  # the recipe's numbers depend on how long the run is; its core has nothing to compile
        trainee, warm = new(steps * rows * CONTEXT), min(40, max(1, steps // 10)) / steps
    yield {"note": trainee.note}
    began, step, nats = time.perf_counter(), 0, 0.0
    trainee.begin(data)
    while (done := (time.perf_counter() - began) / seconds) < 1:
        batch = get_batch(data, batch_rows(len(data), rows, step, seed))
        nats = trainee.step(batch.ids, batch.targets, multiplier(done, warm, FALL[contender]))
        step += 1
    spent = time.perf_counter() - began
    bits = bits_per_byte(trainee.logits, held_out, Tokenizer.load(Path(folder)))
    yield {"bits_per_byte": bits, "steps": step, "tokens": step * rows * CONTEXT, "spent": spent, "train_loss": nats}


def bits_per_byte(logits: Callable[[Any], Any], data: Any, tokenizer: Any) -> float:
    """As `sprout.evals.bits_per_byte` counts, of anybody's logits, which see a row's earlier documents, too."""
    import torch

    from sprout.data import get_batch
    from sprout.model import token_losses

    lengths, nats, spelled = tokenizer.token_bytes(), 0.0, 0
    some = np.linspace(0, len(data) - 1, min(HELD_OUT, len(data))).astype(int)
    with torch.no_grad():
        for start in range(0, len(some), 16):
            batch = get_batch(data, some[start : start + 16])
            nats += float(token_losses(logits(batch.ids).flatten(0, 1), batch.targets.flatten()).double().sum())
            spelled += int(lengths[batch.targets[batch.targets >= 0].numpy()].sum())
    return nats / log(2) / max(1, spelled)


def measure(
    shape: GPTConfig, folder: Path, seconds: Sequence[float], seeds: int, threads: int, contenders: Sequence[str] = CONTENDERS,
    pythons: Sequence[Path] = (), tell: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """A row for each run on the rows that `prepare` left in `folder`: contender, seconds, seed, bits_per_byte (None: `note` has
    the reason), ratio (of its bits per byte to those of Sprout in the same time, mean of the seeds), steps and tokens."""
    rows: list[Row] = []
    for seed in range(seeds):  # one after the other, the contenders in turn
        for time_ in seconds:
            for name in contenders:
                tell(f"{name}, {time_:g} s, seed {seed}: getting ready")
                python = interpreter(pythons, ("torch", "transformers", "regex", "numpy"))
                given = {"contender": name, "shape": asdict(shape), "folder": str(folder), "seconds": time_, "seed": seed}
                row: Row = {"contender": name, "seconds": time_, "seed": seed, "bits_per_byte": None, "ratio": None}
                with Worker(python, "sprout.bench.quality:job", given, environment(threads)) as worker:
                    try:
                        note = worker.answer()["note"]
                        tell(f"{name}, {time_:g} s, seed {seed}")
                        row |= worker.ask() | {"note": note}
                    except Absent as why:
                        tell(f"{name}: absent")
                        row["note"] = f"absent: {why}"
                rows.append(row)
    for row in rows:
        mine = [r["bits_per_byte"] for r in rows if r["contender"] == "Sprout" and r["seconds"] == row["seconds"] and r["bits_per_byte"]]
        if mine and row["bits_per_byte"]:
            row["ratio"] = row["bits_per_byte"] / float(np.mean(mine))
    return rows
