"""The model against Hugging Face, brute force and itself."""

import pytest
import torch

from sprout.common.errors import UserError
from sprout.engine import Decoder, KVCache
from sprout.model import GPT, GPTConfig
from sprout.model.count import cache_bytes_per_token, flops_per_token, parameters
from sprout.model.dial import dial, shape_of
from sprout.model.hf import load_hf, save_hf


def shaken(config: GPTConfig) -> GPT:
    """A model whose every weight is random, so that no branch is silent."""
    model = GPT(config)
    torch.manual_seed(0)
    for p in model.parameters():
        p.data.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6, 8, 12, 20])
@pytest.mark.parametrize("tied", [False, True])
def test_hugging_face_gives_the_same_logits(depth, tied, tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    shape = shape_of(depth, tokenizer.vocab_size, 64)
    config = GPTConfig(
        shape.vocab_size,
        64,
        min(shape.layers, 6 if depth <= 6 else 1),  # what depth changes beyond is the width, and how heads share it
        shape.width,
        shape.heads,
        shape.kv_heads,
        shape.head_size,
        shape.hidden,
        tied=tied,
    )
    model = shaken(config)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.3)
    save_hf(model, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.randint(0, config.vocab_size, (2, 50))
    with torch.no_grad():
        ours = model.logits(model(ids))
        assert (theirs(ids).logits - ours).abs().max() < 1e-4
        again, _ = load_hf(tmp_path)
        assert (again.logits(again(ids)) - ours).abs().max() < 1e-4
    prompt = ids[:1, :8]
    greedy = theirs.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    mine = prompt
    with torch.no_grad():
        for _ in range(12):
            mine = torch.cat([mine, model.logits(model(mine))[:, -1:].argmax(-1)], 1)
    assert greedy.tolist() == mine.tolist()


@torch.no_grad()
def test_cached_logits_equal_uncached(float32):
    model = shaken(GPTConfig(100, 32, 2, 32, 2, 1, 16, 48))
    ids = torch.randint(0, 100, (3, 20))
    whole = model.logits(model(ids))
    cache, decoder = KVCache.empty(model.config, 3), Decoder(model)
    none, zero = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    first = decoder.step(ids[:, :7], cache, slice(0, 3), none, zero + 6)
    assert (first - whole[:, 6]).abs().max() < 1e-4
    for t in range(7, 20):
        one = decoder.step(ids[:, t : t + 1], cache, slice(0, 3), torch.full((3,), t), zero)
        assert (one - whole[:, t]).abs().max() < 1e-4


@torch.no_grad()
def test_segments_do_not_see_each_other():
    model = shaken(GPTConfig(100, 32, 2, 32, 2, 1, 16, 48))
    ids = torch.randint(0, 100, (1, 20))
    segments = torch.tensor([[1] * 8 + [2] * 12])
    joint = model(ids, segments)
    changed = ids.clone()
    changed[:, :8] = (changed[:, :8] + 1) % 100
    assert torch.equal(joint[:, 8:], model(changed, segments)[:, 8:])
    assert not torch.equal(model(ids)[:, 8:], model(changed)[:, 8:])  # without segments it does see them


@pytest.mark.parametrize("depth", range(1, 9))
def test_counts_equal_brute_force(depth):
    shape = shape_of(depth, 600, 64)
    model = GPT(shape)
    assert parameters(shape) == sum(p.numel() for p in model.parameters())
    cache = KVCache.empty(shape, 1)
    assert cache_bytes_per_token(shape) * shape.context == (cache.k.numel() + cache.v.numel()) * 4


def test_flops_equal_the_products_run():
    from torch.utils.flop_counter import FlopCounterMode

    shape = shape_of(3, 600, 64)
    model = GPT(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.logits(model(torch.zeros(1, 64, dtype=torch.int64)))
    matrices = flops_per_token(shape, 64, training=False) - 4 * 3 * 64 * 128
    # Blocks of queries skip 3/8 of the scores that the count, by convention, takes in full.
    assert counter.get_total_flops() == 64 * (matrices + 4 * 3 * 64 * 128 * 5 // 8)


@pytest.mark.parametrize("depth", range(1, 33))
def test_the_dial_behaves_at_every_depth(depth):
    d = dial(depth, 1536, 256)
    assert 0 < d.weight_decay <= 0.2 and 0 < d.matrix_lr <= 0.05 and d.shape.width % d.shape.head_size == 0
    assert d.shape.heads % d.shape.kv_heads == 0 and d.batch_tokens >= 4096
    if depth > 1:
        assert dial(depth - 1, 1536, 256).horizon_tokens < d.horizon_tokens


def test_impossible_shapes_are_refused():
    with pytest.raises(UserError, match="depth"):
        dial(0, 1536, 256)
    with pytest.raises(UserError, match="kv_heads"):
        GPTConfig(100, heads=3, kv_heads=2)
