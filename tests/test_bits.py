"""Training gives the same bits every time, compiled too: what 'goes on bit for bit' rests on."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from sprout.train import native

CODE = """
import dataclasses, hashlib, torch
from sprout.common.compute import apply, decide
from sprout.data import Batch
from sprout.model import GPT
from sprout.model.dial import dial
from sprout.optim import OptimConfig, Optimizer
from sprout.train.loop import backward_step, make_gradients

compute = decide("cpu", "COMPILE", 2, "KERNELS")
if compute.compile:  # bfloat16 compiled was wrong on some CPU (LOG.md), and isn't what the default does
    compute = dataclasses.replace(compute, dtype=torch.float32)
apply(compute)
d = dial(2, 300, 128)
model = GPT(d.shape, 1)
model.dtype = compute.dtype
loss = make_gradients(model, compute)
optimizer = Optimizer(model, OptimConfig(d.matrix_lr, d.embed_lr, d.head_lr, d.weight_decay, dtype=compute.dtype, kernels=compute.kernels))
draw = torch.Generator().manual_seed(0)
for _ in range(12):  # few different tokens, so that many rows of the embedding's gradient come together
    ids = torch.randint(0, 20, (16, 129), generator=draw)
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.ones(16, 128, dtype=torch.int32))
    backward_step(loss, batch, 16)
    optimizer.step(1.0)
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kernels, compile", [("c", "off"), ("torch", "off"), ("torch", "on")])
def test_two_processes_train_to_the_same_bits(kernels: str, compile: str) -> None:
    if kernels == "c" and native._native is None:
        pytest.skip("the C core was not built here (no C compiler at set-up)")
    if compile == "on" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("no C++ compiler, nothing is compiled here")
    said = [
        subprocess.run(
            [sys.executable, "-c", CODE.replace("COMPILE", compile).replace("KERNELS", kernels)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert len(said[0]) == 65 and said[0] == said[1]


TABLE = """
import torch
torch.set_num_threads(2)
from sprout.model.layers import rotary_table
frequency = 10000.0 ** (-torch.arange(0, 64, 2, dtype=torch.float32) / 64)
angle = torch.outer(torch.arange(128, dtype=torch.float32), frequency).repeat(1, 2)
cos, _ = rotary_table(128, 64, 10000.0)
torch.set_num_threads(1)
print(float((cos - angle.double().cos()).abs().max()))
"""


@pytest.mark.slow
def test_the_first_thing_that_two_threads_compute_is_right() -> None:
    """Where MKL's first call was theirs, one process of four had cosines that were off by 1.5e-4 (pytorch/pytorch#188792)."""
    off = [float(subprocess.run([sys.executable, "-c", TABLE], capture_output=True, text=True, check=True).stdout) for _ in range(8)]
    assert max(off) < 1e-6
