"""Recorded steps: everything but the recording itself, which takes a GPU."""

from __future__ import annotations

import pytest
import torch

from sprout.engine import Decoder
from sprout.engine.decoder import KVCache, look, look_by_products
from sprout.engine.graphs import Graphs, above
from sprout.model import GPT, GPTConfig

CONFIG = GPTConfig(100, 300, 2, 32, 4, 2, 8, 64)


def decoder(device: str = "cpu") -> Decoder:
    model = GPT(CONFIG)
    torch.manual_seed(0)
    for p in model.parameters():
        torch.nn.init.normal_(p, 0, 0.1)
    return Decoder(model.to(device))


def test_powers_of_two_up_to_what_there_is() -> None:
    assert [above(n, 1, 6) for n in range(1, 8)] == [1, 2, 4, 4, 6, 6, 6]
    assert [above(n, 128, 300) for n in (1, 128, 129, 256, 257)] == [128, 128, 256, 256, 300]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))])
def test_a_recorded_step_gives_what_a_step_gives(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Rows of different lengths, of which one after the other ends, beyond the longest reach."""
    monkeypatch.setenv("SPROUT_NATIVE_DECODER", "off")
    plain, recorded = decoder(device), decoder(device)
    plain.graphs, recorded.graphs = None, Graphs(recorded.layered)
    total = 6
    with torch.inference_mode():
        one, other = (KVCache.empty(CONFIG, total, device) for _ in range(2))
        starts, none = torch.tensor([0, 40, 3, 90, 7, 1]), torch.zeros(total, dtype=torch.int64)
        head = torch.randint(0, 100, (total, 90))
        for d, cache in ((plain, one), (recorded, other)):
            d.step(head, cache, slice(0, total), none, none)
        for t in range(200):
            B = max(1, total - t // 30)
            ids = torch.randint(0, 100, (B, 1))
            want = plain.step(ids, one, slice(0, B), starts[:B], none[:B])
            got = recorded.step(ids, other, slice(0, B), starts[:B], none[:B])
            assert torch.allclose(got, want, atol=1e-4), t
            starts[:B] += 1
    assert {key[:2] for key in recorded.graphs.recorded} == {(6, 128), (6, 256), (4, 256), (2, 256), (1, 256)}


def test_what_a_step_gave_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPROUT_NATIVE_DECODER", "off")
    d = decoder()
    graphs, cache = Graphs(d.layered), KVCache.empty(CONFIG, 1)
    with torch.inference_mode():
        first = graphs.step(torch.tensor([[1]]), cache, torch.tensor([0]), 1)
        kept = first.clone()
        graphs.step(torch.tensor([[2]]), cache, torch.tensor([1]), 2)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("T", [1, 5])
def test_both_ways_to_look_are_one(T: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, T, 6, 8), torch.randn(3, 2, 30, 8)[:, :, :20], torch.randn(3, 2, 30, 8)[:, :, :20]
    behind = torch.arange(20) > torch.tensor([3, 10, 14])[:, None, None] + torch.arange(T)[:, None]
    bias = torch.zeros(3, T, 20).masked_fill_(behind, -torch.inf)[:, None]
    assert torch.allclose(look(q, k, v, bias), look_by_products(q, k, v, bias), atol=1e-5)
