"""What more GPUs would give on paper: the formulas against cases worked out by hand, and the page against the formulas."""

from pathlib import Path

import pytest

from sprout.model import GPT, GPTConfig
from sprout.model.count import parameters
from sprout.model.dial import dial
from sprout.optim import scaling

PAGE = Path(__file__).parent.parent / "docs" / "scale" / "README.md"
SHAPE = GPTConfig(61, 16, 5, 24, 3, 1, 8, 40)


def test_the_page_has_the_functions_numbers():
    text = PAGE.read_text(encoding="utf-8")
    for depth in (12, 20):
        assert scaling.table(depth) in text


def test_every_parameter_is_exchanged_once():
    assert sum(t.length * t.width for t in scaling.tensors(SHAPE)) == parameters(SHAPE)
    assert sum(p.numel() for p in GPT(SHAPE).parameters()) == parameters(SHAPE)


def test_bytes_by_hand():
    """One process sends nothing, two send half of gradients and weights, and padding counts."""
    assert scaling.bytes_sent(SHAPE, 1) == 0
    assert scaling.bytes_sent(SHAPE, 2, padding=False) == 4 * parameters(SHAPE)
    shapes = {(24, 24): 10, (8, 24): 10, (40, 24): 10, (24, 40): 5}  # q and o, k and v, gate and up, down
    table = 61 * 24  # divides by 2 and by 8
    for n in (2, 8):
        numbers = 2 * table + sum(-(-count // n) * n * r * c for (r, c), count in shapes.items())
        assert scaling.bytes_sent(SHAPE, n) == round(8 * numbers * (n - 1) / n)


def test_ring_times_by_hand():
    assert scaling.ring_seconds(1e9, 1, 1, 12) == 0
    assert scaling.ring_seconds(0.9e9, 8, 1, 2) == pytest.approx(0.9e9 / 450e9 + 2 * 7 * 3.4e-6)
    assert scaling.ring_seconds(1e9, 16, 2, 1) == pytest.approx(1e9 / 50e9 + 14 * 3.4e-6 + 9.6e-6)


def test_one_gpu_is_the_measure_and_no_row_is_cut():
    one, many = scaling.on_paper(12, 1), scaling.on_paper(12, 64)
    assert one.gain == one.data == 1 and one.exchange == one.sent == 0
    own = dial(12, scaling.VOCAB, scaling.CONTEXT)
    assert own.batch_tokens // scaling.CONTEXT == 32 and many.compute == pytest.approx(one.compute / 32)


def test_what_the_page_says_in_words():
    """Each sentence that has a number or a direction of its own."""
    for depth in (12, 20):
        assert scaling.on_paper(depth, 8).gain > scaling.on_paper(depth, 64).gain
        assert scaling.on_paper(depth, 8).exchange < 0.13 * scaling.on_paper(depth, 8).seconds
        best = scaling.best_batch(depth, 64, hybrid=True)
        assert scaling.on_paper(depth, 64, best, hybrid=True).gain > 2 * scaling.on_paper(depth, 8).gain
    row_each = scaling.on_paper(12, 1024, 1024 * 2048)
    assert row_each.batch == 32 * scaling.on_paper(12, 1).batch and row_each.data == 16.5
    hops = 12 * (896 * scaling.NVLINK_HOP + 127 * scaling.NETWORK_HOP)
    assert hops == pytest.approx(0.05, abs=0.003) and hops > 10 * row_each.compute
