"""A fresh model is born looking back: it learns to copy at once, and only because of how it starts."""

from __future__ import annotations

import pytest
import torch

from sprout.model import GPT, GPTConfig, token_losses
from sprout.model import gpt as module
from sprout.model.layers import norm
from sprout.optim import OptimConfig, Optimizer

VOCAB = 300


def copying(model: GPT, steps: int) -> float:
    """Train on random tokens said twice with a gap of random length between; how many of the second saying come right."""
    generator = torch.Generator().manual_seed(5)
    optimizer = Optimizer(model, OptimConfig(0.02, 0.1, 0.01))
    right = 0.0
    for step in range(steps):
        said = torch.randint(0, VOCAB, (16, 12), generator=generator)
        gap = torch.randint(0, VOCAB, (16, step % 9), generator=generator)
        ids = torch.cat([said, gap, said], dim=1)
        logits = model.logits(model(ids))[:, :-1]
        right = float((logits.argmax(-1)[:, -11:] == ids[:, -11:]).float().mean())
        token_losses(logits.flatten(0, 1), ids[:, 1:].flatten()).mean().backward()
        optimizer.step(min(1.0, (step + 1) / 20))
    return right


def config(tied: bool = False) -> GPTConfig:
    return GPTConfig(VOCAB, 64, 2, 64, 2, 1, 32, 128, tied=tied)


@pytest.mark.parametrize("tied", [False, True])
def test_it_learns_to_copy_at_once(tied: bool) -> None:
    assert copying(GPT(config(tied), 3), 60) > 0.5


def test_without_the_instinct_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "look_back", lambda model, generator: None)
    assert copying(GPT(config(), 3), 60) < 0.2


def test_the_first_head_looks_one_step_back() -> None:
    model = GPT(GPTConfig(VOCAB, 64, 2, 128, 2, 2, 64, 384), 3)
    ids = torch.randint(0, VOCAB, (1, 40), generator=torch.Generator().manual_seed(1))
    x = model.embedded(ids)
    q, k, _ = model.blocks[0].qkv(x, model.cos[None, :40, None], model.sin[None, :40, None])  # type: ignore[operator]
    scores = (q[0, :, 0] @ k[0, :, 0].T).masked_fill(~torch.ones(40, 40, dtype=torch.bool).tril(), -1e9)
    assert (scores[1:].argmax(-1) == torch.arange(39)).float().mean() > 0.9
    assert norm(x, 1e-6).isfinite().all()
