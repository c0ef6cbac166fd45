"""On a GPU, where there is one: gradients, updates, memory and a whole run against what a CPU gives."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from sprout.common.compute import Compute, decide
from sprout.data import Batch
from sprout.model import GPT, GPTConfig
from sprout.model.dial import shape_of
from sprout.optim import OptimConfig, Optimizer
from sprout.train import make_gradients
from sprout.train.loop import backward_step
from sprout.train.memory import training_bytes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CONFIG = GPTConfig(512, 256, 3, 256, 4, 2, 64, 512)


def model_and_batch() -> tuple[GPT, Batch]:
    model = GPT(CONFIG)
    g = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data.normal_(0, 0.05, generator=g)
    ids = torch.randint(0, 512, (8, 257), generator=g)
    segments = 1 + (torch.rand(8, 256, generator=g) < 0.03).cumsum(1).int()
    segments[:, 250:] = 0
    targets = ids[:, 1:].clone()
    targets[torch.rand(8, 256, generator=g) < 0.2] = -1
    return model, Batch(ids[:, :-1].contiguous(), targets, segments)


def there(batch: Batch) -> Batch:
    return Batch(batch.ids.cuda(), batch.targets.cuda(), batch.segments.cuda())


@pytest.mark.parametrize("attention, compiled", [("plain", False), ("sdpa", False), ("sdpa", True), ("flex", True)])
@pytest.mark.parametrize("dtype, most", [(torch.float32, 2e-3), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("again", [False, True])
def test_gradients_are_those_of_a_cpu(attention: str, compiled: bool, dtype: torch.dtype, most: float, again: bool) -> None:
    model, batch = model_and_batch()
    want = make_gradients(model, Compute("cpu", torch.float32, False, 4, ()))(batch, 0.01)
    other = copy.deepcopy(model).cuda()
    other.zero_grad()
    other.dtype, other.attention, other.recompute = dtype, attention, again
    got = make_gradients(other, Compute("cuda", dtype, compiled, 4, (), attention=attention))(there(batch), 0.01)
    assert (got.cpu() - want).norm() / want.norm() < most
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        assert (q.grad.cpu() - p.grad).norm() / p.grad.norm() < most, name


def test_a_step_in_pieces_is_a_step() -> None:
    model, batch = model_and_batch()
    model.cuda()
    compute = Compute("cuda", torch.float32, False, 4, (), attention="sdpa")
    model.attention = "sdpa"
    found = []
    for rows in (8, 2):
        model.zero_grad()
        found.append((backward_step(make_gradients(model, compute), there(batch), rows), [p.grad.clone() for p in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert (a - b).norm() / a.norm() < 1e-4


def test_updates_are_those_of_a_cpu() -> None:
    model, batch = model_and_batch()
    other = copy.deepcopy(model).cuda()
    make_gradients(model, Compute("cpu", torch.float32, False, 4, ()))(batch, 0.01)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        q.grad = p.grad.cuda()
    before = [p.detach().clone() for p in model.parameters()]
    for m in (model, other):
        Optimizer(m, OptimConfig()).step(1.0)
    for p, q, old in zip(model.parameters(), other.parameters(), before, strict=True):
        moved = p - old
        assert (q.cpu() - p).norm() / moved.norm() < 1e-3


@pytest.mark.parametrize("depth, rows", [(8, 8), (12, 16)])
def test_training_takes_what_was_told(depth: int, rows: int) -> None:
    """Compiled, in bfloat16."""
    compute = decide("cuda")
    shape = shape_of(depth, 32768, 1024)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model = GPT(shape).cuda()
    model.dtype, model.attention = compute.dtype, compute.attention
    gradients, optimizer = make_gradients(model, compute), Optimizer(model, OptimConfig(dtype=compute.dtype))
    ids = torch.randint(0, 32768, (rows, 1025))
    batch = there(Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.ones(rows, 1024, dtype=torch.int32)))
    for _ in range(3):
        backward_step(gradients, batch, rows)
        optimizer.step(0.1)
    taken = torch.cuda.max_memory_allocated() - before
    told = training_bytes(shape, compute, rows)
    print(f"depth {depth}: {taken / 1e9:.2f} GB taken, {told / 1e9:.2f} told")
    assert taken == pytest.approx(told, rel=0.15)


def test_a_whole_run(tmp_path: Path) -> None:
    """Every stage, from nothing to a chat, and what it says afterwards."""
    from sprout.grow import grow
    from sprout.recipe import GrowConfig
    from sprout.world import WorldConfig

    small = WorldConfig(people=12, strangers=200, places=4, shops=3, inventions=3)
    grow(GrowConfig(run=tmp_path / "run", depth=2, tokens=200_000, eval_problems=4, rl_steps=2, device="cuda", world=small))
    stages = {s: json.loads((tmp_path / "run" / "stages" / s / "stage.json").read_text()) for s in ("pretrain", "midtrain", "finetune", "reinforce")}
    assert stages["finetune"]["curve"][-1]["loss"] < stages["pretrain"]["curve"][0]["loss"]
    assert stages["reinforce"]["val_bpb"] < 6
