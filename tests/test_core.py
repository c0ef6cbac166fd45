"""The C core of training against torch: losses, gradients and updates, for all instruction sets of this machine."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sprout.common import compute as choices
from sprout.common.compute import Compute, decide
from sprout.common.errors import UserError
from sprout.data import Batch
from sprout.model import GPT, GPTConfig
from sprout.optim import OptimConfig, Optimizer, adamw, muon
from sprout.optim import native as updates
from sprout.optim.muon import QUINTIC
from sprout.train import make_gradients, native
from sprout.train.loop import backward_step

pytestmark = pytest.mark.skipif(native._native is None, reason="the C core was not built here (no C compiler at set-up)")
SETS = native._native.sets() if native._native else []
BY_TORCH = Compute("cpu", torch.float32, False, 1, ())


def by_core(threads: int = 1, products: str = "float32") -> Compute:
    return Compute("cpu", torch.float32, False, threads, (), "c", products)


def some_model(config: GPTConfig, seed: int = 0) -> GPT:
    """A model in which no matrix is zero, as some are at first."""
    torch.manual_seed(seed)
    model = GPT(config, seed)
    for p in model.parameters():
        if not p.any():
            p.data.normal_(0, 0.1)
    model.head.data.normal_(0, 0.1)
    return model


def some_batch(config: GPTConfig, rows: int, length: int, seed: int = 0) -> Batch:
    """Documents of random lengths, padding at some rows' end, and targets that count here and there."""
    dice = np.random.default_rng(seed)
    ids = torch.from_numpy(dice.integers(0, config.vocab_size, (rows, length)))
    targets = torch.from_numpy(dice.integers(0, config.vocab_size, (rows, length)))
    targets[torch.from_numpy(dice.random((rows, length)) < 0.4)] = -1
    begins = torch.from_numpy(dice.random((rows, length)) < 0.05)
    segments = (begins.cumsum(1) + 1).to(torch.int32)
    for row in range(rows):
        end = int(dice.integers(length // 2, length + 1))
        segments[row, end:], targets[row, end:] = 0, -1
    return Batch(ids, targets, segments)


def gradients_of(model: GPT, compute: Compute, batch: Batch, weight: float = 0.01) -> tuple[float, list[torch.Tensor]]:
    for p in model.parameters():
        p.grad = None
    nats = make_gradients(model, compute)(batch, weight)
    assert nats.shape == batch.ids.shape and not nats[batch.targets < 0].any()
    return float(nats.double().sum()), [p.grad.clone() for p in model.parameters()]


def worst(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The largest distance of a gradient from torch's, relative to its length, or to a 250th of the longest one's, where it is
    shorter: of nearly nothing, as where a query sees one key or two, most is rounding (by torch with one thread and with two,
    such a gradient differed by 3e-7 of the longest)."""
    longest = max(float(b.norm()) for b in theirs)
    return max(float((a - b).norm()) / max(float(b.norm()), longest / 250) for a, b in zip(ours, theirs, strict=True))


def within(name: str, ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    """Whether gradients are torch's. Rounded to integers a small one, which others nearly cancel out, keeps their rounding: it
    counts beside a tenth of the longest. Of 800 random shapes the worst were off by 4e-4 and by 9e-3, most by a hundredth and an
    eighth of that; where a row has a target or two, nothing evens out."""
    if name != "int16":
        return worst(ours, theirs) < 2e-3
    floor = max(float(b.norm()) for b in theirs) / 10
    return max(float((a - b).norm()) / max(floor, float(b.norm())) for a, b in zip(ours, theirs, strict=True)) < 3e-2


shapes = st.builds(
    lambda layers, groups, kv, d, c, f, v, t: GPTConfig(v, t, layers, 16 * c, groups * kv, kv, 32 * d, 16 * f),
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9),
    st.integers(2, 200), st.integers(2, 150),
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(shapes, st.integers(1, 5), st.integers(1, 3), st.integers(0, 9), st.sampled_from(SETS or ["none"]))
def test_losses_and_gradients_are_torchs(config, rows, threads, seed, name):
    if name == "int16":
        config = replace(config, width=2 * config.width, hidden=2 * config.hidden)
    model, batch = some_model(config, seed), some_batch(config, rows, config.context, seed)
    if not (batch.targets >= 0).any():
        batch.targets[0, 0] = 0
    nats, theirs = gradients_of(model, BY_TORCH, batch)
    core = native.CoreGradients(model, by_core(threads))
    core.set = name
    for p in model.parameters():
        p.grad = None
    assert float(core(batch, 0.01).double().sum()) == pytest.approx(nats, rel=5e-3 if name == "int16" else 1e-5)
    assert within(name, [p.grad for p in model.parameters()], theirs)


@pytest.mark.parametrize("name", SETS)
def test_sums_that_are_cut_and_more_tokens_than_logits_at_once(name):
    config = GPTConfig(700, 300, 1, 32, 1, 1, 32, 544)
    model, batch = some_model(config), some_batch(config, 2, 300)
    batch.targets[0] = torch.arange(300)
    nats, theirs = gradients_of(model, BY_TORCH, batch)
    core = native.CoreGradients(model, by_core(2))
    core.set = name
    for p in model.parameters():
        p.grad = None
    assert float(core(batch, 0.01).double().sum()) == pytest.approx(nats, rel=1e-4 if name == "int16" else 1e-5)
    assert within(name, [p.grad for p in model.parameters()], theirs)
    assert worst([p.grad for p in model.parameters()], theirs) < (5e-3 if name == "int16" else 5e-4)  # each by itself


@pytest.mark.skipif("int16" not in SETS, reason="this CPU has no AVX-512 VNNI")
def test_integers_of_16_bits_are_ten_times_as_exact_as_bfloat16():
    config = GPTConfig(300, 128, 3, 64, 2, 1, 32, 192)
    model, batch = some_model(config), some_batch(config, 4, 128)
    nats, exact = gradients_of(model, BY_TORCH, batch)
    model.dtype = torch.bfloat16
    _, torchs = gradients_of(model, replace(BY_TORCH, dtype=torch.bfloat16), batch)
    mine, ours = gradients_of(model, by_core(2, "int16"), batch)
    assert mine == pytest.approx(nats, rel=1e-4)
    assert 10 * worst(ours, exact) < worst(torchs, exact)  # measured: 60 times


@pytest.mark.skipif("int16" not in SETS, reason="this CPU has no AVX-512 VNNI")
@pytest.mark.parametrize("times", [1e-12, 1e12])
def test_integers_are_scaled_to_whatever_there_is(times):
    """Gradients of a loss that is weighed by next to nothing, or by a lot."""
    config = GPTConfig(60, 64, 2, 64, 2, 1, 32, 96)
    model, batch = some_model(config), some_batch(config, 3, 64)
    once = gradients_of(model, by_core(1, "int16"), batch, 1.0)[1]
    assert worst([g / times for g in gradients_of(model, by_core(1, "int16"), batch, times)[1]], once) < 1e-3


@pytest.mark.skipif("int16" not in SETS, reason="this CPU has no AVX-512 VNNI")
def test_what_is_no_number_stays_none_among_integers():
    config = GPTConfig(60, 64, 2, 64, 2, 1, 32, 96)
    model, batch = some_model(config), some_batch(config, 3, 64)
    model.blocks[0].up.data[3, 5] = torch.nan
    nats, gradients = gradients_of(model, by_core(1, "int16"), batch)
    assert nats != nats and all(g.isnan().any() for g in gradients)


def test_gradients_are_added_to_what_is_there():
    config = GPTConfig(50, 32, 2, 32, 1, 1, 32, 48)
    model, batch = some_model(config), some_batch(config, 2, 32)
    _, once = gradients_of(model, by_core(), batch)
    gradients = make_gradients(model, by_core())
    for p in model.parameters():
        p.grad = None
    gradients(batch, 0.01)
    gradients(batch, 0.02)
    assert worst([p.grad for p in model.parameters()], [3 * g for g in once]) < 1e-5


def test_each_token_may_have_its_weight():
    config = GPTConfig(50, 32, 2, 32, 1, 1, 32, 48)
    model, batch = some_model(config), some_batch(config, 3, 32)
    weights = torch.randn(3, 32)
    found = []
    for compute in (BY_TORCH, by_core(2)):
        for p in model.parameters():
            p.grad = None
        nats = make_gradients(model, compute)(batch, weights)
        found.append((nats, [p.grad.clone() for p in model.parameters()]))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert worst(found[1][1], found[0][1]) < 1e-4


def test_the_same_to_the_bit_each_time_and_for_any_number_of_rows():
    config = GPTConfig(50, 64, 2, 32, 1, 1, 32, 48)
    model, batch = some_model(config), some_batch(config, 5, 64)
    first = gradients_of(model, by_core(2), batch)
    again = gradients_of(model, by_core(2), batch)
    assert first[0] == again[0] and all(torch.equal(a, b) for a, b in zip(first[1], again[1], strict=True))


def test_a_short_row_after_a_long_one_sees_nothing_of_it():
    config = GPTConfig(50, 96, 2, 32, 2, 1, 32, 48)
    model, long, short = some_model(config), some_batch(config, 1, 96, 1), some_batch(config, 1, 96, 2)
    short.targets[0, 17:] = -1
    short.targets[0, 16] = 3
    _, alone = gradients_of(model, by_core(), short)
    both = Batch(*(torch.cat([getattr(long, n), getattr(short, n)]) for n in ("ids", "targets", "segments")))
    _, together = gradients_of(model, by_core(), both)
    _, first = gradients_of(model, by_core(), long)
    assert worst([a - b for a, b in zip(together, first, strict=True)], alone) < 1e-3


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("shape", [(3, 48, 16), (2, 16, 80), (5, 64, 64), (1, 384, 128)])
def test_muon_is_torchs(name, shape):
    torch.manual_seed(1)
    p, g, m = torch.randn(shape), torch.randn(shape), torch.randn(shape)
    theirs, their_m = p.clone(), m.clone()
    muon.muon_update(theirs, g, their_m, 0.02, 0.95, 0.1, torch.float32)
    ours = [x.numpy() for x in p.unbind()]
    updates._native.muon(name, 2, *shape[1:], 5, ours, [x.numpy() for x in g.unbind()], m.numpy(), 0.02, 0.95, 0.1, QUINTIC)
    assert torch.allclose(m, their_m, atol=1e-6)
    assert (p - theirs).abs().max() < 5e-6  # a step is 0.02 times a number near 1/sqrt(n); products are float32 in any set


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 80, 208), (1, 144, 80)])
@pytest.mark.parametrize("kind", ["falling", "few", "tiny"])
def test_muon_loses_nothing_of_small_singular_values(name, shape, kind):
    """The core iterates on X X^T, whose singular values are squares. Beside float64; an element is at most about 1."""
    torch.manual_seed(2)
    n, rows, columns = shape
    g = torch.randn(shape) * (1e-9 if kind == "tiny" else 1)
    if kind == "falling":
        u, s, v = torch.linalg.svd(g, full_matrices=False)
        g = (u * torch.logspace(0, -6, s.shape[1])) @ v
    if kind == "few":
        g = torch.randn(n, rows, 3) @ torch.randn(n, 3, columns)
    a, b, c = QUINTIC
    x = g.double() / (g.double().flatten(1).norm(dim=1)[:, None, None] * 1.01 + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    p = torch.zeros(shape)
    updates._native.muon(name, 2, rows, columns, 5, [m.numpy() for m in p.unbind()], [m.numpy() for m in g.unbind()], g.clone().numpy(), 1.0, 0.95, 0.0, QUINTIC)
    assert (-p / max(1, rows / columns) ** 0.5 - x).abs().max() < 1e-3


def test_muon_is_the_same_to_the_bit_for_any_number_of_threads():
    torch.manual_seed(1)
    p, g = torch.randn(5, 144, 80), torch.randn(5, 144, 80)
    found = []
    for threads in (1, 2, 3):
        mine = [m.clone().numpy() for m in p.unbind()]
        updates._native.muon(SETS[0], threads, 144, 80, 5, mine, [m.numpy() for m in g.unbind()], torch.zeros_like(p).numpy(), 0.02, 0.95, 0.1, QUINTIC)
        found.append(np.stack(mine))
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_gradients_lie_where_the_last_ones_did_unless_they_are_added_to():
    config = GPTConfig(50, 32, 2, 32, 1, 1, 32, 48)
    model, batch = some_model(config), some_batch(config, 2, 32)
    gradients = make_gradients(model, by_core())
    gradients(batch, 0.01)
    place, once = model.embed.grad.data_ptr(), [p.grad.clone() for p in model.parameters()]
    gradients(batch, 0.02)
    assert model.embed.grad.data_ptr() == place
    assert all(torch.allclose(p.grad, 3 * g, rtol=1e-4, atol=1e-6) for p, g in zip(model.parameters(), once, strict=True))
    model.zero_grad()
    gradients(batch, 0.01)
    assert model.embed.grad.data_ptr() == place
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), once, strict=True))


def test_adamw_is_torchs():
    torch.manual_seed(1)
    tensors = [torch.randn(1003), torch.randn(1003), torch.randn(1003), torch.rand(1003)]
    theirs = [t.clone() for t in tensors]
    for step in range(1, 4):
        adamw.adamw_update(theirs[0], theirs[1], theirs[2], theirs[3], step, 0.01, (0.8, 0.95), 1e-10, 0.1)
        updates.adamw_update(*tensors, step, 0.01, (0.8, 0.95), 1e-10, 0.1)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(tensors, theirs, strict=True))


def test_a_model_trained_by_the_core_is_the_one_that_torch_trains():
    config = GPTConfig(60, 64, 2, 64, 2, 1, 32, 96)
    losses = []
    for compute in (BY_TORCH, by_core(2), by_core(2, "int16" if "int16" in SETS else "float32")):
        model = GPT(config, 3)
        optimizer = Optimizer(model, OptimConfig(weight_decay=0.1, kernels=compute.kernels))
        gradients = make_gradients(model, compute)
        mine = []
        for step in range(12):
            mine.append(backward_step(gradients, some_batch(config, 4, 64, step % 3), 3))
            optimizer.step(1.0)
        losses.append(mine)
    assert losses[0] == pytest.approx(losses[1], rel=2e-4) and losses[0] == pytest.approx(losses[2], rel=3e-3)
    assert losses[0][-1] < losses[0][0]


def test_processes_of_different_machines_agree_on_products(monkeypatch):
    mine = Compute("cpu", torch.float32, False, 1, (), "c", "int16")
    for theirs, then in (("float32", "float32"), ("int16", "int16")):
        monkeypatch.setattr(choices, "gathered", lambda told, theirs=theirs: [told, (*told[:2], theirs)])
        found = choices.agree(mine)
        assert found.products == then and ("not all processes" in found.say()) == (then == "float32")


@pytest.mark.parametrize("change, why", [
    ({"width": 40}, "width"), ({"hidden": 50}, "hidden"), ({"head_size": 16}, "head size"), ({"tied": True}, "embedding"),
])  # fmt: skip
def test_what_the_core_can_not_do_is_told(change, why):
    config = replace(GPTConfig(50, 32, 1, 32, 1, 1, 32, 48), **change)
    with pytest.raises(UserError, match=why):
        make_gradients(GPT(config), by_core())


def test_the_border_refuses_what_would_be_read_out_of_bounds():
    config = GPTConfig(50, 32, 1, 32, 1, 1, 32, 48)
    model, batch = some_model(config), some_batch(config, 2, 32)
    gradients = make_gradients(model, by_core())
    for wrong in (50, -1):
        ids = batch.ids.clone()
        ids[1, 3] = wrong
        with pytest.raises(ValueError, match="outside"):
            gradients(Batch(ids, batch.targets, batch.segments), 1.0)
    targets = batch.targets.clone()
    targets[0, 0] = 50
    with pytest.raises(ValueError, match="outside"):
        gradients(Batch(batch.ids, targets, batch.segments), 1.0)
    segments = torch.ones(2, 32, dtype=torch.int32)
    segments[0, 5] = 2  # then 1 again: a document in two pieces
    with pytest.raises(ValueError, match="rising"):
        gradients(Batch(batch.ids, batch.targets, segments), 1.0)
    with pytest.raises(ValueError, match="bytes"):
        gradients(Batch(batch.ids, batch.targets, batch.segments[:1]), 1.0)
    with pytest.raises(ValueError, match="longer"):
        long = torch.zeros(1, 33, dtype=torch.int64)
        gradients(Batch(long, long, long.int()), 1.0)
    with pytest.raises(ValueError):
        native._native.step("no such set", 1, 1, 32, 1, 1, 32, 48, 50, 32, 0, 1e-6, 3.0)
    if "int16" in SETS:
        with pytest.raises(ValueError, match="thirty-twos"):
            native._native.step("int16", 1, 1, 48, 1, 1, 32, 64, 50, 32, 0, 1e-6, 3.0)
    with pytest.raises(ValueError):
        native._native.step(SETS[-1], 0, 1, 32, 1, 1, 32, 48, 50, 32, 0, 1e-6, 3.0)


def test_the_choice_is_told_and_can_be_overridden():
    assert decide("cpu").kernels == "c" and decide("cpu").products == ("int16" if "int16" in SETS else "float32")
    assert decide("cpu", products="float32").products == "float32" and "products of float32: asked for" in decide("cpu", products="float32").say()
    with pytest.raises(UserError, match="VNNI"):
        decide("cpu", kernels="torch", products="int16")
    assert "training steps by the C core" in decide("cpu").say()
    torchs = decide("cpu", "off", kernels="torch")
    assert torchs.kernels == "torch" and not torchs.compile and "asked for" in torchs.say()
