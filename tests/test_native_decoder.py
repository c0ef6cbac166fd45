"""The decoder's C core against the model in PyTorch: scores, choices, whole replies, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sprout.engine import Decoder, Engine, Sampling, native, sampling
from sprout.model import GPT, GPTConfig
from sprout.tokenizer import Tokenizer
from tests.test_engine import WORDS, prompts, random_model, shape

pytestmark = pytest.mark.skipif(bool(native.ABSENT), reason=native.say())


@st.composite
def shapes(draw: st.DrawFn) -> GPTConfig:
    """Small models of every kind: sizes that fill vectors and sizes that don't."""
    kv_heads = draw(st.integers(1, 3))
    return GPTConfig(
        vocab_size=draw(st.integers(2, 150)), context=draw(st.integers(2, 40)), layers=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 70)), heads=kv_heads * draw(st.integers(1, 3)), kv_heads=kv_heads,
        head_size=draw(st.sampled_from([2, 6, 8, 16, 32, 64, 128])), hidden=draw(st.integers(1, 70)), tied=draw(st.booleans()),
    )  # fmt: skip


@pytest.fixture(params=["int16", "avx512", "avx2", "plain"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kind of vectors that this processor has."""
    monkeypatch.setenv(native.SWITCH, request.param)
    try:
        Decoder(GPT(GPTConfig(2, 2, 1, 2, 1, 1, 2, 2)))
    except ValueError:
        pytest.skip(f"this processor has no {request.param}")
    return request.param


def close(got: Tensor, want: Tensor) -> bool:
    """Within float32's rounding of the largest score; of integers of 16 bits, within what models of a few numbers make of theirs:
    a head of two whose key is nearly nothing magnifies it (half of a thousand steps are within 0.0002, all were within 0.004)."""
    most = 1e-2 if os.environ[native.SWITCH] == "int16" else 2e-4
    return bool((got - want).abs().max() <= most * max(1.0, float(want.abs().max())))


@torch.inference_mode()
@settings(max_examples=40, deadline=None)
@given(config=shapes(), rows=st.integers(1, 9), threads=st.integers(1, 2), seed=st.integers(0, 1000))
def scores_are_the_models(config: GPTConfig, rows: int, threads: int, seed: int) -> None:
    model, rng = random_model(config, seed), np.random.default_rng(seed)
    decoder, ids = Decoder(model), torch.from_numpy(rng.integers(0, config.vocab_size, (rows, config.context)))
    assert decoder.core is not None
    whole = model.logits(model(ids))
    cache, order = decoder.cache(rows + 2), torch.from_numpy(rng.permutation(rows + 2)[:rows].copy())
    at = torch.zeros(rows, dtype=torch.int64)
    torch.set_num_threads(threads)
    try:
        while (room := config.context - int(at.max())) > 0:
            T = min(int(rng.choice([1, 1, 1, 2, 17])), room)
            last = torch.from_numpy(rng.integers(0, T, rows))
            shown = torch.stack([ids[b, at[b] : at[b] + T] for b in range(rows)])
            assert close(decoder.step(shown, cache, order, at, last), whole[torch.arange(rows), at + last])
            at += last + 1
    finally:
        torch.set_num_threads(1)


def test_scores(kind: str) -> None:
    """Rows of different lengths, in any rows of the cache, by one token or several."""
    scores_are_the_models()


@torch.inference_mode()
def test_long_prompts_and_many_rows(kind: str) -> None:
    """More tokens than go through the layers together, with padding between."""
    config = GPTConfig(100, 300, 2, 32, 4, 2, 16, 48)
    model, generator = random_model(config), torch.Generator().manual_seed(0)
    ids, lengths = torch.randint(0, 100, (70, 300), generator=generator), torch.randint(1, 301, (70,), generator=generator)
    decoder = Decoder(model)
    got = decoder.step(ids, decoder.cache(70), slice(0, 70), torch.zeros(70, dtype=torch.int64), lengths - 1)
    for b in range(0, 70, 9):
        assert close(got[b], model.logits(model(ids[b : b + 1, : lengths[b]]))[0, -1])


@torch.inference_mode()
def test_a_row_is_the_same_to_the_last_bit_in_any_company(kind: str) -> None:
    config = GPTConfig(100, 40, 2, 48, 4, 2, 16, 80)
    decoder, ids = Decoder(random_model(config)), torch.randint(0, 100, (30, 20))
    many, one = decoder.cache(30), decoder.cache(1)
    for t in range(20):
        together = decoder.step(ids[:, t : t + 1], many, slice(0, 30), torch.full((30,), t), torch.zeros(30, dtype=torch.int64))
        alone = decoder.step(ids[7:8, t : t + 1], one, slice(0, 1), torch.tensor([t]), torch.zeros(1, dtype=torch.int64))
        assert torch.equal(together[7:8], alone)


@torch.inference_mode()
def test_tokens_of_one_row_see_each_other(kind: str) -> None:
    """All of a row's tokens at once and their scores all wanted: the same bits as one by one, by several threads."""
    config = GPTConfig(100, 40, 2, 48, 4, 2, 16, 80)
    decoder, ids, each = Decoder(random_model(config)), np.random.default_rng(0).integers(0, 100, 40), np.arange(40)
    cache, one, all_ = decoder.cache(2), np.empty((40, 100), np.float32), np.empty((40, 100), np.float32)
    k, v = cache.k.numpy(), cache.v.numpy()
    for t in range(40):
        decoder.core.step(ids[t : t + 1], np.array([0]), each[t : t + 1], np.array([0]), k, v, one[t : t + 1], 1)
    for _ in range(50):
        k[:, 1] = v[:, 1] = np.nan
        decoder.core.step(ids, np.ones(40, np.int64), each, each, k, v, all_, 2)
        assert (one == all_).all()


@torch.inference_mode()
def test_values_of_any_size_that_16_bits_have(kind: str) -> None:
    """Larger ones, which no trained model has, come back as no finite number, not as another one."""
    config = GPTConfig(40, 12, 1, 16, 2, 1, 16, 24)
    model, nothing = random_model(config), torch.zeros(1, dtype=torch.int64)
    for size, finite in ((1e4, True), (1e6, kind != "int16")):
        model.blocks[0].v[:] = torch.eye(16) * size
        decoder = Decoder(model)
        got = decoder.step(torch.tensor([[3]]), decoder.cache(1), slice(0, 1), nothing, nothing)
        want = model.logits(model(torch.tensor([[3]])))[:, 0]
        assert close(got, want) if finite else not got.isfinite().any()


@torch.inference_mode()
def test_any_number_of_rows_gives_a_row_the_same_bits(kind: str) -> None:
    """Few rows, and many in groups and blocks of every size; sums that are taken at once and in parts of two lengths."""
    config = GPTConfig(70, 4, 1, 152, 2, 1, 76, 301)
    decoder, ids = Decoder(random_model(config)), torch.randint(0, 70, (150, 1))
    nothing = torch.zeros(150, dtype=torch.int64)
    alone = [decoder.step(ids[b : b + 1], decoder.cache(1), slice(0, 1), nothing[:1], nothing[:1]) for b in range(150)]
    for B in (*range(2, 40), 64, 70, 71, 72, 73, 128, 140, 150):
        together = decoder.step(ids[:B], decoder.cache(B), slice(0, B), nothing[:B], nothing[:B])
        assert torch.equal(together, torch.cat(alone[:B])), B


@torch.inference_mode()
def test_integers_are_as_near_as_they_should_be(kind: str) -> None:
    """On the whole, for a model of a usual width: some ten-thousandths of the scores' spread."""
    config = GPTConfig(300, 60, 3, 128, 4, 2, 32, 352)
    model, ids = random_model(config), torch.randint(0, 300, (9, 60))
    last = torch.full((9,), 59)
    decoder = Decoder(model)
    got = decoder.step(ids, decoder.cache(9), slice(0, 9), torch.zeros(9, dtype=torch.int64), last)
    want = model.logits(model(ids))[:, -1]
    error = float((got - want).square().mean().sqrt() / want.std())
    assert error < (2e-3 if kind == "int16" else 2e-5)


@torch.inference_mode()
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 3e38, 1e-40, 0.0])
def test_numbers_of_any_kind(kind: str, number: float) -> None:
    """Weights that are none, or too large or small: no crash; a row of the head that is all zeros gives zeros, one that isn't
    finite spoils no other's score."""
    config = GPTConfig(40, 12, 1, 17, 2, 1, 8, 23)
    model, ids, nothing = random_model(config), torch.randint(0, 40, (3, 12)), torch.zeros(3, dtype=torch.int64)
    cache = Decoder(model).cache(3)
    want = Decoder(model).step(ids, cache, slice(0, 3), nothing, nothing + 11)
    assert model.head is not None
    model.head[5] = number
    got = Decoder(model).step(ids, cache, slice(0, 3), nothing, nothing + 11)
    assert torch.equal(got[:, :5], want[:, :5]) and torch.equal(got[:, 6:], want[:, 6:])
    assert number != 0 or (got[:, 5] == 0).all()
    assert abs(number) < 1e38 or not got[:, 5].isfinite().all()
    model.embed[:], model.blocks[0].down[:] = number, number
    Decoder(model).step(ids, cache, slice(0, 3), nothing, nothing + 11)


# ------------------------------------------------------------------------------------------------ choosing


def test_choices(kind: str) -> None:
    """The same tokens as PyTorch's way, whatever the settings, and their log-probabilities."""
    rng, different, all_ = np.random.default_rng(0), 0, 0
    for V in (2, 37, 300, 3000):
        core = Decoder(GPT(GPTConfig(V, 16, 1, 8, 1, 1, 2, 8))).core
        for trial in range(60):
            B = int(rng.integers(1, 9))
            plain = rng.normal(0, rng.choice([0.1, 1, 4]), (B, V)).astype(np.float32)
            plain = np.round(plain) if trial % 5 == 0 else plain  # ties
            masks = rng.random((4, V)) < 0.3
            masks[:, rng.integers(0, V)] = False
            kinds, seeds, places = rng.integers(0, 4, B), rng.integers(0, 2**63, B).astype(np.uint64) * 2 + 1, rng.integers(0, 999, B)
            chosen = [rng.choice([0, 0.01, 0.7, 3], B).astype(np.float32), rng.choice([0, 1, 3, 50, 10**6], B)]
            chosen += [rng.choice([1, 0.9, 0.53, 0.05], B).astype(np.float32), rng.choice([0, 0.1, 1], B).astype(np.float32)]
            logits = torch.from_numpy(plain)
            ids, logprobs = native.choose(core, logits, logits, masks, kinds, chosen, seeds, places)
            luck = torch.from_numpy(sampling.uniform(seeds, places))
            allowed = logits.masked_fill(torch.from_numpy(masks[kinds]), -torch.inf)
            want = sampling.choose(allowed, *map(torch.from_numpy, chosen), luck)
            assert not masks[kinds, ids].any()
            assert np.allclose(logprobs, sampling.log_probability(logits, torch.from_numpy(ids)), atol=1e-5)
            different, all_ = different + int((want.numpy() != ids).sum()), all_ + B
    assert different <= all_ // 300  # where two sums differ in their last bit and luck falls between


@pytest.mark.parametrize("top_k, top_p, min_p", [(0, 0.9, 0), (0, 0.99, 0), (0, 1, 0.02), (0, 1, 0.001), (40, 1, 0), (40, 0.9, 0.01), (900, 0.97, 0.1)])
def test_what_is_left_out(kind: str, top_k: int, top_p: float, min_p: float) -> None:
    """Much luck on the same scores, peaked and flat: the same tokens as PyTorch's way, from wherever the likely ones end."""
    V, B = 1000, 600
    core, rng, nothing = Decoder(GPT(GPTConfig(V, 16, 1, 8, 1, 1, 2, 8))).core, np.random.default_rng(0), np.zeros(B, np.int64)
    for spread in (0.3, 1, 2, 5):
        logits = torch.from_numpy(rng.normal(0, spread, (1, V)).astype(np.float32)).repeat(B, 1)
        chosen = [np.ones(B, np.float32), np.full(B, top_k), np.full(B, top_p, np.float32), np.full(B, min_p, np.float32)]
        seeds = rng.integers(0, 2**63, B).astype(np.uint64)
        ids, _ = native.choose(core, logits, logits, np.zeros((1, V), bool), nothing, chosen, seeds, nothing)
        want = sampling.choose(logits, *map(torch.from_numpy, chosen), torch.from_numpy(sampling.uniform(seeds, nothing)))
        assert (want.numpy() != ids).sum() <= 2  # where luck falls between two sums' last bits


@pytest.mark.parametrize("asked", [Sampling(max_tokens=40), Sampling(1.0, max_tokens=40, seed=7), Sampling(0.9, 30, 0.9, 40, 3, min_p=0.01)])
def test_replies_are_the_same_without_it(asked: Sampling, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a stretch, token by token, and in PyTorch, if it is float32; with a batch whose rows begin and end at different times."""
    tokenizer = Tokenizer.train([WORDS] * 3, 300)
    model = random_model(shape(tokenizer))

    class Slow(Decoder):
        def step(self, *given: object) -> Tensor:  # type: ignore[override]
            return super().step(*given)  # type: ignore[arg-type]

    several = [replace(asked, seed=asked.seed + i, max_tokens=3 + i * 5) for i in range(9)]
    fast = Engine(model, tokenizer, max_batch=4).generate(prompts(9), several)
    slow = Engine(model, tokenizer, max_batch=4, decoder=Slow).generate(prompts(9), several)
    assert [r.ids for r in fast] == [r.ids for r in slow] and [r.finish for r in fast] == [r.finish for r in slow]
    assert [r.logprobs for r in fast] == [r.logprobs for r in slow]  # the same to the last bit
    if kind == "int16":  # near scores, of which one that is chosen differently changes what follows
        return
    monkeypatch.setenv(native.SWITCH, "off")
    plain = Engine(model, tokenizer, max_batch=4).generate(prompts(9), several)
    assert [r.ids for r in fast] == [r.ids for r in plain] and [r.messages for r in fast] == [r.messages for r in plain]
    for a, b in zip(fast, plain, strict=True):
        assert np.allclose(a.logprobs, b.logprobs, atol=1e-4) and a.sampled == b.sampled


# ------------------------------------------------------------------------------------------------ the border


def test_what_does_not_fit_is_refused() -> None:
    config = GPTConfig(50, 20, 2, 16, 2, 1, 8, 24)
    decoder = Decoder(random_model(config))
    core, cache = decoder.core, decoder.cache(3)
    k, v, logits = cache.k.numpy(), cache.v.numpy(), np.empty((2, 50), np.float32)
    right = [np.array([1, 2]), np.array([0, 2]), np.array([0, 19]), np.array([0, 1]), k, v, logits]
    core.step(*right, 1)
    wrong = [
        (0, np.array([1, 50])), (0, np.array([-1, 2])), (0, np.array([1.0, 2.0])), (0, np.array([[1, 2]])), (0, np.array([1, 2], np.int32)),
        (0, np.array([1, 9, 2])[::2]), (1, np.array([0, 3])), (1, np.array([-1, 0])), (1, np.array([0])), (2, np.array([0, 20])),
        (2, np.array([0, -1])), (3, np.array([0, 2])), (3, np.array([1, 0])), (3, np.array([1, 1])), (3, np.array([-1, 0])),
        (4, k[:, :2]), (4, k[:1]), (4, k.astype(np.float64)), (4, k.astype(np.float32 if k.dtype == np.float16 else np.float16)), (5, v[:, :, :, :10].copy()), (5, v[:, :, :, :, :4]), (6, logits[:1]),
        (6, np.empty((50, 2), np.float32).T), (6, np.empty((2, 49), np.float32)), (6, b"x" * 400), (0, None), (4, "k"),
    ]  # fmt: skip
    for place, value in wrong:
        with pytest.raises((ValueError, IndexError, TypeError, BufferError)):
            core.step(*[value if i == place else a for i, a in enumerate(right)], 1)
    frozen = logits.copy()
    frozen.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        core.step(*right[:6], frozen, 1)
    for arguments in ((), right, (*right, 1, 2), (*right, "two")):
        with pytest.raises(TypeError):
            core.step(*arguments)
    one, mask = np.zeros(2, np.float32), np.zeros((4, 50), bool)
    seeds, number = np.zeros(2, np.uint64), np.zeros(2, np.int64)
    given = [logits, logits, mask, number, one, number, one, one, seeds, number, number.copy(), one.copy()]
    core.choose(*given, 2)
    for place, value in ((3, number + 4), (3, number - 1), (2, mask[:, 1:]), (0, logits[:, 1:]), (8, number), (4, number), (10, one)):
        with pytest.raises((ValueError, IndexError, BufferError)):
            core.choose(*[value if i == place else a for i, a in enumerate(given)], 1)
    chosen, logprobs = np.zeros((3, 2), np.int64), np.zeros((3, 2), np.float32)
    write = [right[0], right[1], np.array([0, 17]), k, v, mask, number, one, number, one, one, seeds, number, number - 1, chosen, logprobs]
    assert core.write(*write, 1) == 3
    for place, value in ((2, np.array([0, 18])), (0, np.array([0, 50])), (1, np.array([0, 3])), (6, number + 4), (14, chosen[:2]), (13, one)):
        with pytest.raises((ValueError, IndexError)):
            core.write(*[value if i == place else a for i, a in enumerate(write)], 1)


def test_models_that_do_not_fit_are_refused() -> None:
    decoder = Decoder(random_model(GPTConfig(50, 20, 2, 16, 2, 1, 8, 24)))
    whole = [t.numpy() for t in (decoder.table, decoder.cos, decoder.sin, decoder.head)]
    layer = tuple(t.numpy() for t in (torch.zeros(32, 16), torch.zeros(16, 16), torch.zeros(48, 16), torch.zeros(16, 24)))
    right = [2, 1, 8, 16, 24, 50, 20, 1e-6, 1.0, *whole, (layer, layer), ""]
    native._native.Model(*right)
    wrong = [(0, 3), (0, 0), (1, -1), (1, 2), (2, 7), (2, 1 << 40), (3, 15), (5, 51), (6, 21), (9, whole[0].T), (13, (layer, layer[:3]))]
    for place, value in [*wrong, (13, [layer]), (13, (None,)), (14, "abacus")]:
        with pytest.raises((ValueError, TypeError, BufferError)):
            native._native.Model(*[value if i == place else a for i, a in enumerate(right)])
    with pytest.raises(ValueError):
        native._native.Model(*right).__init__(*right)
    with pytest.raises(ValueError):
        native._native.Model.__new__(native._native.Model).step(*[np.zeros(1)] * 7, 1)


@torch.inference_mode()
def test_several_callers_at_once() -> None:
    """Each has its own memory; one has the other threads, the rest work alone."""
    config = GPTConfig(300, 30, 2, 64, 4, 2, 16, 96)
    decoder, ids = Decoder(random_model(config)), torch.randint(0, 300, (3, 30))
    want = [decoder.step(ids[i : i + 1], decoder.cache(1), slice(0, 1), torch.tensor([0]), torch.tensor([29])) for i in range(3)]
    wrong: list[int] = []

    def caller(i: int) -> None:
        torch.set_num_threads(2)
        with torch.inference_mode():
            for _ in range(40):
                cache = decoder.cache(1)
                got = decoder.step(ids[i : i + 1], cache, slice(0, 1), torch.tensor([0]), torch.tensor([29]))
                if not torch.equal(got, want[i]):
                    wrong.append(i)

    callers = [threading.Thread(target=caller, args=(i,)) for i in range(3)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    torch.set_num_threads(1)
    assert not wrong


@pytest.mark.slow
def test_the_switch() -> None:
    code = "from sprout.engine import Decoder, native; from sprout.model import *; print(native.say(), Decoder(GPT(GPTConfig(9))).core)"
    run = lambda value: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code], env={**os.environ, native.SWITCH: value}, capture_output=True, text=True
    )
    assert "=off None" in run("off").stdout and "float32 <" in run("float32").stdout
    assert f"{'16 bits' if native.integers() else 'float32'} <" in run("").stdout
    assert "no abacus" in run("abacus").stderr
