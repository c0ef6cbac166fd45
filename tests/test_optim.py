"""The optimizer against torch's own, and on one, two and three processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sprout.model import GPT, GPTConfig
from sprout.optim import OptimConfig, Optimizer, parameter_groups, schedule
from sprout.optim.adamw import adamw_update
from sprout.optim.muon import orthogonalise

WORKER = Path(__file__).with_name("distributed_worker.py")


@pytest.mark.parametrize("eps", [1e-10, 0.1])
def test_adamw_equals_torch(eps):
    torch.manual_seed(0)
    mine = torch.randn(50)
    theirs = torch.nn.Parameter(mine.clone())
    m, v = torch.zeros(50), torch.zeros(50)
    reference = torch.optim.AdamW([theirs], lr=0.01, betas=(0.8, 0.95), eps=eps, weight_decay=0.1)
    for step in range(1, 6):
        g = torch.randn(50)
        theirs.grad = g
        reference.step()
        adamw_update(mine, g, m, v, step, 0.01, (0.8, 0.95), eps, 0.1)
    assert torch.allclose(mine, theirs.data, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 40, 10), (1, 8, 64)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    s = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert s.min() > 0.5 and s.max() < 1.4


def test_every_parameter_is_in_exactly_one_group():
    model = GPT(GPTConfig(100, 32, 3, 32, 2, 1, 16, 48))
    grouped = [id(p) for group in parameter_groups(model, OptimConfig()) for p in group.params]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


@given(st.integers(2, 400), st.integers(0, 50), st.integers(0, 400))
def test_schedule_rises_holds_and_falls(steps, warmup, decay):
    warmup, decay = min(warmup, steps), min(decay, steps)
    values = [schedule(i, steps, warmup, decay) for i in range(steps)]
    assert all(0 < v <= 1 for v in values)
    falling = values[steps - decay :]
    assert warmup + decay > steps or all(a >= b for a, b in zip(falling, falling[1:], strict=False))


def test_state_survives_saving():
    def trained(steps: int, through_state: bool) -> GPT:
        model = GPT(GPTConfig(50, 16, 1, 16, 1, 1, 16, 24), seed=1)
        optimizer = Optimizer(model, OptimConfig())
        for i in range(steps):
            torch.manual_seed(i)
            model(torch.randint(0, 50, (2, 8))).square().sum().backward()
            model.logits(model(torch.randint(0, 50, (2, 8)))).square().sum().backward()
            optimizer.step(1.0)
            if through_state and i == 2:
                state = optimizer.state_dict()
                optimizer = Optimizer(model, OptimConfig())
                optimizer.load_state_dict(state)
        return model

    a, b = trained(6, False), trained(6, True)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.slow
def test_processes_agree(tmp_path):
    """1, 2 and 3 processes over gloo get the same losses, on sizes that do not divide evenly."""
    losses = {}
    for n in (1, 2, 3):
        out = tmp_path / f"{n}.json"
        command = [sys.executable, str(WORKER), str(out)]
        if n > 1:
            command = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                f"--nproc-per-node={n}",
                str(WORKER),
                str(out),
            ]
        subprocess.run(command, check=True, timeout=200, env={**__import__("os").environ, "OMP_NUM_THREADS": "1"})
        losses[n] = json.loads(out.read_text())
    assert losses[1][-1] < losses[1][0] - 0.1
    for n in (2, 3):
        assert losses[n] == pytest.approx(losses[1], abs=2e-4)
