"""Training on one GPU: tokens/s of whole steps, what is learned from the same tokens, and memory; contenders one after the other.

All get the same rows of 2,048 tokens of the novels in the same order, cut with a tokenizer of 32,768 words learned from them,
as many a step, and their learning rate is through with the run at its end. A contender is a function, `module:function`, of
depth, vocabulary, context, tokens a step, steps and seed; it makes a model of that depth by its own rules, and gives

- `step(pieces, i)`: step i of the run, by the mean loss over pieces, batches on the GPU; that loss in nats
- `loss(ids, targets)`: mean nats, no gradients
- a note that says how it is run.

`python -m sprout.bench.gpu DATA FOLDER --depths 12 20 --contenders sprout.bench.gpu:ours peers.theirs:make`
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Generator, Sequence
from math import log
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sprout.bench.parts import Absent, Row, Worker, environment
from sprout.bench.worker import named
from sprout.data import Batch, Packed, batch_rows, get_batch

Pieces = list[Batch]
Contender = tuple[Callable[[Pieces, int], float], Callable[[Tensor, Tensor], float], str]
CONTEXT, VOCABULARY, HELD_OUT, SEED = 2048, 32768, 64, 1  # tokens, words, rows
OURS = "sprout.bench.gpu:ours"


def ours(depth: int, vocabulary: int, context: int, batch_tokens: int, steps: int, seed: int, documents: bool = True) -> Contender:
    """The recipe's numbers and its loop's parts. The rate rises for a tenth of the run, 40 steps at most, and falls in its last
    60 %, as finetuning is 60 % of a run."""
    from sprout.common.compute import apply, decide
    from sprout.model import GPT
    from sprout.model.dial import dial
    from sprout.optim import OptimConfig, Optimizer, schedule
    from sprout.train import make_gradients
    from sprout.train.loop import backward_step

    compute = decide("cuda", attention="auto" if documents else "sdpa")
    apply(compute)
    d = dial(depth, vocabulary, context, steps * batch_tokens, batch_tokens)
    model = GPT(d.shape, seed).to("cuda")
    model.dtype, model.attention = compute.dtype, compute.attention
    gradients = make_gradients(model, compute)
    optimizer = Optimizer(model, OptimConfig(d.matrix_lr, d.embed_lr, d.head_lr, d.weight_decay, dtype=compute.dtype))

    def causal(batch: Batch, weight: float | Tensor) -> Tensor:
        return gradients(Batch(batch.ids, batch.targets, None), weight)  # type: ignore[arg-type]

    def step(pieces: Pieces, i: int) -> float:
        whole = Batch(*(torch.cat(parts) for parts in zip(*((b.ids, b.targets, b.segments) for b in pieces), strict=True)))
        value = backward_step(gradients if documents else causal, whole, len(pieces[0].ids))
        optimizer.step(schedule(i, steps, min(40, max(1, steps // 10)), int(0.6 * steps)))
        return value

    @torch.no_grad()
    def loss(ids: Tensor, targets: Tensor) -> float:
        return float(model.loss(model(ids), targets, torch.ones_like(targets, dtype=torch.float32))[0] / (targets >= 0).sum())

    return step, loss, f"bfloat16, compiled, attention by {compute.attention}"


def ours_causal(depth: int, vocabulary: int, context: int, batch_tokens: int, steps: int, seed: int) -> Contender:
    """`ours` where the documents of a row see each other, as nanochat's do: PyTorch's SDPA needs no mask then."""
    return ours(depth, vocabulary, context, batch_tokens, steps, seed, False)


def job(contender: str, depth: int, folder: str, batch_tokens: int, steps: int, seed: int, piece: int) -> Generator[Any, None, None]:
    """Of `worker.py`: one contender's run, its row. Forward and backward take `piece` rows at a time."""
    from sprout.tokenizer import Tokenizer

    if not torch.cuda.is_available():
        raise Absent("there is no GPU")
    torch.manual_seed(seed)
    data, held_out = Packed.load(Path(folder) / "train"), Packed.load(Path(folder) / "validation")
    began = time.perf_counter()
    step, loss, note = named(contender)(depth, VOCABULARY, CONTEXT, batch_tokens, steps, seed)
    seconds, nats = [], []
    for i in range(steps):
        rows = batch_rows(len(data), batch_tokens // CONTEXT, i, seed)
        pieces = [get_batch(data, rows[a : a + piece], "cuda") for a in range(0, len(rows), piece)]
        torch.cuda.synchronize()
        start = time.perf_counter()
        nats.append(step(pieces, i))
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        if i == 0:
            first = time.perf_counter() - began
    memory = torch.cuda.max_memory_allocated()
    lengths, spelled, found = Tokenizer.load(Path(folder)).token_bytes(), 0, 0.0
    some = np.linspace(0, len(held_out) - 1, min(HELD_OUT, len(held_out))).astype(int)
    for a in range(0, len(some), 8):
        b = get_batch(held_out, some[a : a + 8], "cuda")
        counted = b.targets[b.targets >= 0]
        found += loss(b.ids, b.targets) * len(counted)
        spelled += int(lengths[counted.cpu().numpy()].sum())
    yield {
        "tokens_per_second": batch_tokens / median(seconds[len(seconds) // 4 :]), "bits_per_byte": found / log(2) / spelled, "first_step": first,
        "memory": memory, "tokens": steps * batch_tokens, "curve": nats, "note": note, "gpu": torch.cuda.get_device_name(),
    }  # fmt: skip


def measure(
    folder: Path, depths: Sequence[int], contenders: Sequence[str], batch_tokens: int, steps: int, piece: int, tell: Callable[[str], None] = print
) -> list[Row]:
    """A row for each depth and contender on the rows that `quality.prepare` left in the folder: `ratio` is ours over its
    tokens/s, `memory` in bytes, `curve` each step's loss in nats."""
    rows: list[Row] = []
    for depth in depths:
        for name in contenders:
            given = {"contender": name, "depth": depth, "folder": str(folder.absolute()), "batch_tokens": batch_tokens, "steps": steps, "seed": SEED, "piece": piece}
            row: Row = {"contender": name, "depth": depth, "tokens_per_second": None}
            with Worker(Path(sys.executable), "sprout.bench.gpu:job", given, environment(8)) as worker:
                try:
                    row |= worker.answer()
                except Absent as why:
                    row["note"] = f"absent: {why}"
            rows.append(row)
            tell(json.dumps({k: v for k, v in row.items() if k != "curve"} | {"curve": [round(x, 3) for x in row.get("curve", [])[:: max(1, steps // 10)]]}))
    return rows


def main() -> None:
    """The command above; FOLDER keeps the rows, so that they can be made elsewhere, and gets gpu.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of test data; not looked at where FOLDER has rows")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--depths", type=int, nargs="*", default=[12, 20])
    parser.add_argument("--contenders", nargs="+", default=[OURS, "sprout.bench.gpu:ours_causal"])
    parser.add_argument("--batch-tokens", type=int, default=1 << 17)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--piece", type=int, default=32, help="rows that go forward and back together")
    given = parser.parse_args()
    if not (given.folder / "validation").is_dir():
        from sprout.bench.quality import prepare

        prepare(given.data, given.folder, vocabulary=VOCABULARY, context=CONTEXT)
    rows = measure(given.folder, given.depths, given.contenders, given.batch_tokens, given.steps, given.piece)
    ours_of = {row["depth"]: row["tokens_per_second"] for row in rows if row["contender"] == OURS}
    for row in rows:
        mine, theirs = ours_of.get(row["depth"]), row["tokens_per_second"]
        row["ratio"] = mine / theirs if mine and theirs else None
    (given.folder / "gpu.json").write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
