"""Embedding and head from counted pairs: the counts, what a fresh model knows afterwards, and who begins so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sprout.data import Packed, get_batch, pack
from sprout.model import GPT, GPTConfig, token_losses
from sprout.train import pairs
from sprout.train.pairs import learn_pairs, pair_counts

WORDS = 48


@pytest.fixture(scope="module")
def data() -> Packed:
    """Each word is followed by one of two, with odds of 3 to 1: 0.56 nats a token."""
    dice = np.random.default_rng(0)
    items = []
    for _ in range(200):
        text = [int(dice.integers(1, WORDS))]
        while len(text) < 33:
            text.append(1 + (text[-1] * (7 if dice.random() < 0.75 else 11)) % (WORDS - 1))
        items.append((text, None))
    return pack(items, 32, 0)


def shape(**more: object) -> GPTConfig:
    return GPTConfig(**({"vocab_size": WORDS, "context": 32, "layers": 2, "width": 64, "heads": 2, "kv_heads": 1, "hidden": 64} | more))  # type: ignore[arg-type]


def test_pairs_are_counted_where_they_count() -> None:
    tokens = np.array([[1, 2, 1, 2], [2, 2, 0, 0]], np.uint32)
    counted = np.array([[False, True, True, True], [False, True, False, False]])
    table = pair_counts(Packed(tokens, np.ones_like(tokens, np.int16), counted, {}), 3)
    assert table.tolist() == [[0, 0, 0], [0, 0, 2], [0, 1, 1]]


def test_a_model_knows_what_stands_behind_what(data: Packed) -> None:
    model = GPT(shape(layers=1))
    fresh = {name: p.clone() for name, p in model.named_parameters()}
    batch = get_batch(data, np.arange(100))

    def nats() -> float:
        with torch.no_grad():
            return float(token_losses(model.logits(model(batch.ids)).flatten(0, 1), batch.targets.flatten()).mean())

    before = nats()
    assert learn_pairs(model, data, 60)
    assert nats() < 0.65 < 3.5 < before
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, fresh[name])}
    assert changed == {"embed", "head"}
    assert torch.equal(model.embed[:, :4], fresh["embed"][:, :4])  # the channels that are the same for all tokens
    assert torch.allclose(model.embed[:, 4:].square().mean(1), torch.ones(WORDS))


def test_the_gradient_is_that_of_the_loss(data: Packed) -> None:
    """A first step of Adam goes a learning rate against the gradient's sign."""
    model = GPT(shape(layers=1))
    counts = pair_counts(data, WORDS)
    logits = model.logits(model.embed_table())
    (-(logits.log_softmax(1) * counts).sum() / counts.sum()).backward()
    assert model.embed.grad is not None and model.head is not None and model.head.grad is not None
    before = model.head.detach().clone()
    assert learn_pairs(model, data, 1)
    large = model.head.grad.abs() > 1e-6
    assert torch.allclose((before - model.head)[large], pairs.HEAD_LR * model.head.grad.sign()[large], atol=1e-4)


def test_who_does_not_begin_so(data: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not learn_pairs(GPT(shape(tied=True)), data)
    monkeypatch.setattr(pairs, "LARGEST", WORDS - 1)
    model = GPT(shape())
    fresh = model.embed.clone()
    assert not learn_pairs(model, data) and torch.equal(model.embed, fresh)
