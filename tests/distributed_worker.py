"""Trains a tiny model on this process's share of every batch; rank 0 writes the losses."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from sprout.cli import leave
from sprout.common.compute import Compute
from sprout.data import Batch
from sprout.model import GPT, GPTConfig
from sprout.optim import OptimConfig, Optimizer
from sprout.train import make_gradients
from sprout.train.loop import backward_step

if "RANK" in os.environ:
    dist.init_process_group("gloo")
rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
model = GPT(GPTConfig(61, 16, 5, 24, 3, 1, 8, 40), seed=3)  # 5 matrices of a shape: nothing divides by 2 or 3
optimizer = Optimizer(model, OptimConfig())
loss = make_gradients(model, Compute("cpu", torch.float32, False, 1, ()))
losses = []
for step in range(8):
    g = torch.Generator().manual_seed(step % 2)
    ids = torch.randint(0, 61, (6, 17), generator=g)
    targets = ids[:, 1:].clone()
    targets[0, :9] = -1  # processes have different numbers of targets
    part = slice(rank, None, size)
    batch = Batch(ids[part, :-1], targets[part], torch.ones(6, 16, dtype=torch.int32)[part])
    losses.append(backward_step(loss, batch, 2))
    optimizer.step(1.0)
state = optimizer.state_dict()
if rank == 0:
    Path(sys.argv[1]).write_text(json.dumps(losses))
if dist.is_initialized():
    dist.destroy_process_group()
leave(0)
