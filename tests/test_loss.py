"""The loss without whole logits against the plain one: values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sprout.common.compute import Compute
from sprout.data import Batch
from sprout.model import GPT, GPTConfig, token_losses
from sprout.model.loss import judged, summed_loss, target_logprobs
from sprout.train import make_gradients


def case(n: int, channels: int, words: int, without: float, seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, channels, generator=g).to(dtype).requires_grad_()
    weight = (torch.randn(words, channels, generator=g) * 0.5).requires_grad_()
    targets = torch.randint(0, words, (n,), generator=g)
    targets[torch.rand(n, generator=g) < without] = -1
    return hidden, weight, targets


def grown(value: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    """The gradients of value, which leaves the leaves as they were."""
    return [g.float() for g in torch.autograd.grad(value, leaves)]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 70), channels=st.integers(1, 33), words=st.integers(1, 90), without=st.sampled_from([0.0, 0.5, 1.0]),
       chunk=st.sampled_from([1, 7, 16, 2048]), above=st.floats(-3, 3), seed=st.integers(0, 9))  # fmt: skip
def test_equals_the_plain_loss(n: int, channels: int, words: int, without: float, chunk: int, above: float, seed: int) -> None:
    hidden, weight, targets = case(n, channels, words, without, seed, torch.float32)
    plain, ours = token_losses(F.linear(hidden, weight), targets).sum(), summed_loss(hidden, weight, targets, chunk)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    want, got = grown(plain * above, hidden, weight), grown(ours * above, hidden, weight)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-5)
    real = targets.clamp(min=0)
    want_logp = F.linear(hidden, weight).log_softmax(-1)
    got_logp, entropy = target_logprobs(hidden, weight, real, chunk)
    torch.testing.assert_close(got_logp, want_logp.gather(1, real[:, None])[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=want_logp.detach()).entropy(), rtol=1e-4, atol=1e-5)
    assert not entropy.requires_grad
    logp, likeliest = judged(hidden, weight, real, chunk)
    torch.testing.assert_close(logp, got_logp.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(likeliest, F.linear(hidden, weight).argmax(-1) == real)
    each = torch.linspace(-1, 1, n)
    want = grown((want_logp.gather(1, real[:, None])[:, 0] * each).sum(), hidden, weight)
    torch.testing.assert_close(grown((got_logp * each).sum(), hidden, weight), want, rtol=1e-4, atol=2e-5)


def test_equals_the_plain_loss_in_bfloat16() -> None:
    """Against float32, it is not further off than the plain one in bfloat16."""
    hidden, weight, targets = case(300, 64, 500, 0.3, 1, torch.bfloat16)
    exact_hidden = hidden.detach().float().requires_grad_()
    exact = token_losses(F.linear(exact_hidden, weight), targets).sum()
    plain, ours = token_losses(F.linear(hidden, weight.bfloat16()), targets).sum(), summed_loss(hidden, weight, targets, 64)
    assert abs(float((ours - exact).detach())) < 0.01 * float(exact)
    want = grown(exact, exact_hidden, weight)
    for have, usual, true in zip(grown(ours, hidden, weight), grown(plain, hidden, weight), want, strict=True):
        assert (have - true).norm() < 1.1 * (usual - true).norm() + 1e-6 and (have - true).norm() < 0.02 * true.norm()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_has_the_gradients_of_the_plain_loss(tied: bool, compiled: bool) -> None:
    model = GPT(GPTConfig(100, 32, 1 if compiled else 2, 32, 2, 1, 16, 48, tied=tied))
    torch.manual_seed(0)
    for p in model.parameters():
        p.data.normal_(0, 0.3)
    ids, targets = torch.randint(0, 100, (3, 32)), torch.randint(-1, 100, (3, 32))
    targets[0, 5:20] = -1
    segments = torch.arange(32).div(10, rounding_mode="floor").expand(3, -1)
    plain = token_losses(model.logits(model(ids, segments)).flatten(0, 1), targets.flatten()).sum()
    (plain * 0.01).backward()
    want = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    gradients = make_gradients(model, Compute("cpu", torch.float32, compiled, 1, ()))
    assert float(gradients(Batch(ids, targets, segments), 0.01).sum()) == pytest.approx(float(plain), rel=1e-5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, want[name], rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_no_logits_are_kept() -> None:
    """Between forward and backward nothing of N x V numbers is alive, and never more than a chunk of them."""
    hidden, weight, targets = case(4096, 8, 1000, 0.0, 0, torch.float32)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        summed_loss(hidden, weight, targets, 256)
        target_logprobs(hidden, weight, targets, 256)
    assert kept and max(kept) <= 4096 * 8
