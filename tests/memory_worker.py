"""Trains a preset for some steps in a process of its own and prints how many bytes that took at most, after the imports:
depth, kernels, threads, recompute, dtype, compile, rows, vocabulary, context."""

import gc
import json
import sys
import tempfile
from pathlib import Path

import torch

from sprout.common.compute import Compute, apply
from sprout.data import Batch
from sprout.model import GPT, GPTConfig
from sprout.model.dial import shape_of
from sprout.optim import OptimConfig, Optimizer
from sprout.train import Checkpoint, make_gradients, save_checkpoint
from sprout.train.loop import backward_step


def status(name: str) -> int:
    """A number of bytes from /proc/self/status."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def train(shape: GPTConfig, compute: Compute, recompute: bool, rows: int, forget: bool) -> dict[str, int]:
    """The most bytes resident so far: after gradients, after the optimizer, after a checkpoint."""
    model = GPT(shape)
    model.dtype, model.recompute = compute.dtype, recompute
    optimizer = Optimizer(model, OptimConfig(dtype=compute.dtype, kernels=compute.kernels))
    gradients = make_gradients(model, compute)
    ids = torch.randint(0, shape.vocab_size, (rows, shape.context + 1))
    batch = Batch(ids[:, :-1], ids[:, 1:].contiguous(), torch.ones(rows, shape.context, dtype=torch.int32))
    marks = {}
    for step in range(3 if forget else 2):  # the second has everything: the optimizer's state is there while gradients are made
        if step == 2 and forget:
            Path("/proc/self/clear_refs").write_text("5")  # what compiling took
        backward_step(gradients, batch, min(rows, 32))
        marks["gradients"] = status("VmHWM")
        optimizer.step(1e-3)
    marks["step"] = status("VmHWM")
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), Checkpoint(1, model.state_dict(), optimizer.state_dict(), {}))
    return {**marks, "save": status("VmHWM")}


def main(depth: int, kernels: str, threads: int, recompute: bool, dtype: str, compiled: bool, rows: int, words: int, context: int) -> None:
    compute = Compute("cpu", getattr(torch, dtype), compiled, threads, (), kernels)
    apply(compute)
    fresh = status("VmRSS")
    # The libraries behind a first product, a first checkpoint and so on are no part of what a model takes.
    train(GPTConfig(64, 32, 2, 32, 1, 1, 32, 32), Compute("cpu", compute.dtype, False, threads, (), kernels), recompute, 1, False)
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    marks = train(shape_of(depth, words, context), compute, recompute, rows, compiled)
    print(json.dumps({k: v - before for k, v in marks.items()} | {"libraries": before - fresh}))


if __name__ == "__main__":
    a = sys.argv
    main(int(a[1]), a[2], int(a[3]), a[4] == "on", a[5], a[6] == "on", int(a[7]), int(a[8]), int(a[9]))
