"""Attention by PyTorch's SDPA and FlexAttention against the one written out, and layers run again on the way back against
layers kept: values and gradients."""

from __future__ import annotations

import warnings

import pytest
import torch

from sprout.common.compute import Compute, decide
from sprout.common.errors import UserError
from sprout.data import Batch
from sprout.model import GPT, GPTConfig
from sprout.model.attention import KINDS, attend, make_mask
from sprout.train import make_gradients, native


def documents(B: int, T: int) -> torch.Tensor:
    """Segments as `pack` makes them: rising numbers, then zeros; the first row is one document."""
    g = torch.Generator().manual_seed(3)
    segments = 1 + (torch.rand(B, T, generator=g) < 0.15).cumsum(1)
    segments[0] = 1
    segments[1:, T - 5 :] = 0
    return segments.int()


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("with_documents", [True, False])
def test_every_way_gives_the_same(kind: str, heads: int, kv_heads: int, with_documents: bool) -> None:
    B, T, D = 3, 50, 16
    torch.manual_seed(1)
    leaves = [torch.randn(B, T, h, D, requires_grad=True) for h in (heads, kv_heads, kv_heads)]
    weight, ids = torch.randn(B, T, heads, D), torch.zeros(B, T, dtype=torch.int64)
    segments = documents(B, T) if with_documents else None
    results = []
    for k in ("plain", kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # FlexAttention says that it wants to be compiled
            # PyTorch has no way back through FlexAttention on a CPU: of that one, the values alone are tested.
            given = [x.detach() for x in leaves] if kind == "flex" else leaves
            mixed = attend(k, *given, make_mask(k, segments, ids))
        back = torch.autograd.grad((mixed * weight).sum(), leaves) if kind != "flex" else ()
        results.append([mixed, *back])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=2e-5)


def model_and_batch(layers: int = 3) -> tuple[GPT, Batch]:
    model = GPT(GPTConfig(90, 48, layers, 64, 2, 1, 32, 96))
    torch.manual_seed(0)
    for p in model.parameters():
        p.data.normal_(0, 0.2)
    targets = torch.randint(-1, 90, (4, 48))
    targets[2, 30:] = -1
    return model, Batch(torch.randint(0, 90, (4, 48)), targets, documents(4, 48))


def gradients_of(model: GPT, batch: Batch, compute: Compute) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    value = float(make_gradients(model, compute)(batch, 0.01).sum())
    return value, {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("attention", ["plain", "sdpa"])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_recomputing_changes_no_gradient(attention: str, compiled: bool) -> None:
    model, batch = model_and_batch(1 if compiled else 3)  # a compiler takes its time for each layer
    compute = Compute("cpu", torch.float32, compiled, 1, ())
    want, plain = gradients_of(model, batch, Compute("cpu", torch.float32, False, 1, ()))
    model.attention, model.recompute = attention, True
    got, again = gradients_of(model, batch, compute)
    assert got == pytest.approx(want, rel=1e-5)
    for name in plain:
        torch.testing.assert_close(again[name], plain[name], rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@torch.no_grad()
def test_flex_attention_compiled_gives_the_same() -> None:
    """The whole model, as it runs on a GPU; documents are cut differently from one batch to the next."""
    model, batch = model_and_batch()
    run = torch.compile(lambda ids, segments: model(ids, segments), dynamic=False)
    want = [model(batch.ids, s) for s in (batch.segments, batch.segments.flip(0))]
    model.attention = "flex"
    torch.testing.assert_close(model(batch.ids, batch.segments), want[0], rtol=1e-4, atol=1e-5)  # not compiled: by SDPA
    for s, w in zip((batch.segments, batch.segments.flip(0)), want, strict=True):
        torch.testing.assert_close(run(batch.ids, s), w, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(native._native is None, reason="the C core was not built")
@pytest.mark.parametrize("name", native._native.sets() if native._native else [])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_c_core_recomputes_to_the_last_bit(name: str, threads: int) -> None:
    model, batch = model_and_batch()
    results = []
    for model.recompute in (False, True):
        core = native.CoreGradients(model, Compute("cpu", torch.float32, False, threads, (), "c"))
        core.set = name
        model.zero_grad()
        results.append((float(core(batch, 0.01).sum()), [p.grad.clone() for p in model.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_recomputing_keeps_less() -> None:
    model, batch = model_and_batch(6)
    kept = []
    for model.recompute in (False, True):
        count: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, c=count: c.append(t.numel()) or t, lambda t: t):
            model.loss(model(batch.ids, batch.segments), batch.targets, torch.ones(batch.targets.shape))
        kept.append(sum(count))
    assert kept[1] < kept[0] / 4


def test_attention_is_decided_in_one_place() -> None:
    def line(**asked: str) -> str:
        return next(r for r in decide("cpu", threads=1, kernels="torch", **asked).reasons if r.startswith("attention"))

    threads = torch.get_num_threads()
    try:
        assert "plain" in line() and "sdpa: asked for" in line(attention="sdpa")
        with pytest.raises(UserError, match="compile"):
            line(attention="flex", compile="off")
        with pytest.raises(UserError, match="CPU"):
            line(attention="flex", compile="on")
    finally:
        torch.set_num_threads(threads)
