"""The model prepared for writing: its weights once in the form that a step wants, and the step itself.

`GPT.forward` is the plain way to the same logits, which the tests compare with. Letters: B rows, T new tokens of a row,
S tokens it can look at, L layers, H heads, K key/value heads, D head size, C channels, V vocabulary.
"""

from __future__ import annotations

import math
import mmap
import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sprout.engine import native
from sprout.engine.graphs import Graphs
from sprout.model import GPT, Block, GPTConfig
from sprout.model.gpt import EMBED_EPS
from sprout.model.layers import norm, rotate

MANY = 8  # rows, from which products are faster


def untouched(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros on the CPU that the system only provides where something is written, in small pages. Rows are rarely full: with
    torch's zeros all of them were written first, with NumPy's whole pages of 2 MB (LOG.md)."""
    if sys.platform == "win32":
        return torch.zeros(shape, dtype=dtype)
    pages = mmap.mmap(-1, dtype.itemsize * math.prod(shape), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


@dataclass(slots=True)
class KVCache:
    """Keys and values of everything seen so far, for a fixed number of rows: two (L, rows, K, S, D) tensors,
    laid out so that attention reads them without a copy; float32, or float16 where the C core multiplies integers.

    The cache is a value its owner passes in; `Decoder.step` writes only the places it is told to.
    """

    k: Tensor
    v: Tensor

    @classmethod
    def empty(cls, config: GPTConfig, rows: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> KVCache:
        shape = (config.layers, rows, config.kv_heads, config.context, config.head_size)
        if torch.device(device).type == "cpu":
            return cls(untouched(shape, dtype), untouched(shape, dtype))
        return cls(torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))


@dataclass(slots=True)
class Layer:
    """A block's matrices, those that read the same input joined to one."""

    qkv: Tensor  # ((H + 2K) D, C)
    o: Tensor  # (C, H D)
    gate_up: Tensor  # (2F, C)
    down: Tensor  # (C, F)


def look(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of q (B, T, H, D), scaled, over k and v (B, K, S, D), with what the bias (B, 1, T, S) adds to the scores;
    (B, T, H D). By the library, or as two products of all rows and key heads: that takes a quarter of the library's time for one
    query a row of many long rows on a GPU, and longer for a single row (LOG.md)."""
    if not (q.is_cuda and q.shape[1] == 1 and len(q) >= MANY):
        return F.scaled_dot_product_attention(q.transpose(1, 2), k, v, bias, scale=1.0, enable_gqa=True).transpose(1, 2).flatten(2)
    return look_by_products(q, k, v, bias)


def look_by_products(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """As `look`."""
    (B, T, H, D), K = q.shape, k.shape[1]
    q = q.view(B, T, K, H // K, D).permute(0, 2, 3, 1, 4).reshape(B * K, -1, D)  # (B K, G T, D)
    scores = torch.bmm(q, k.flatten(0, 1).mT).view(B, H, T, -1) + bias
    mixed = torch.bmm(scores.softmax(-1).view(B * K, -1, k.shape[2]), v.flatten(0, 1))
    return mixed.view(B, H, T, D).transpose(1, 2).flatten(2)


class Decoder:
    """One model's weights as they are at this moment, in float32 whatever it is trained in: a reply and its
    log-probabilities then depend on the weights alone, and on whether the C core multiplies integers of 16 bits (native.py)."""

    @torch.inference_mode()
    def __init__(self, model: GPT) -> None:
        self.config, self.device = model.config, model.embed.device
        self.table = norm(model.embed, EMBED_EPS)  # (V, C)
        self.head = self.table * model.config.width**-0.5 if model.head is None else model.head.detach()
        self.layers = []
        for block in model.blocks:
            assert isinstance(block, Block)
            qkv, gate_up = torch.cat([block.q, block.k, block.v]), torch.cat([block.gate, block.up])
            self.layers.append(Layer(qkv, block.o.detach(), gate_up, block.down.detach()))
        self.cos, self.sin = model.cos, model.sin  # (context, D)
        self.core = native.core(self)
        if self.core:  # nobody else reads them, and they are as much memory again
            self.layers = []
        self.kept = native.kept(self.device)
        self.graphs = Graphs(self.layered) if self.device.type == "cuda" else None
        # Whether the core may write several tokens at a stretch: not past a step that somebody wrote anew.
        self.writes = self.core is not None and type(self).step is Decoder.step

    def cache(self, rows: int) -> KVCache:
        """An empty one for its steps."""
        return KVCache.empty(self.config, rows, self.device, self.kept)

    def step(self, ids: Tensor, cache: KVCache, rows: Tensor | slice, starts: Tensor, last: Tensor) -> Tensor:
        """Logits (B, V) float32 at the places `last` (B,) of the new tokens `ids` (B, T) int64, with keys and values of
        earlier tokens read from the `rows` of the cache and those of the new ones written to it; `starts` (B,) counts
        what each row holds already. What stands behind `last` is padding: later steps overwrite it. `ids`, `starts` and
        `last` may be on the CPU, where looking at them costs no wait for a GPU."""
        if self.core:
            return native.step(self.core, ids, cache, rows, starts, last, torch.empty(len(ids), self.config.vocab_size))
        S = int(starts.max()) + ids.shape[1]
        ids, starts, last = (x.to(self.device) for x in (ids, starts, last))
        if self.graphs and ids.shape[1] == 1 and isinstance(rows, slice) and not rows.start:
            return self.graphs.step(ids, cache, starts, S)
        return self.layered(ids, cache, rows, starts, last, S)

    def layered(self, ids: Tensor, cache: KVCache, rows: Tensor | slice, starts: Tensor, last: Tensor, S: int) -> Tensor:
        """The step in PyTorch; S is the furthest that any row looks, or more."""
        config, (B, T), device = self.config, ids.shape, ids.device
        H, K, D, C, eps = config.heads, config.kv_heads, config.head_size, config.width, config.eps
        places = starts[:, None] + torch.arange(T, device=device)  # (B, T)
        row = (torch.arange(cache.k.shape[1], device=device)[rows] if isinstance(rows, slice) else rows)[:, None]  # (B, 1)
        behind = torch.arange(S, device=device) > places[:, :, None]  # (B, T, S)
        bias = torch.zeros(behind.shape, device=device).masked_fill_(behind, -torch.inf)[:, None]  # (B, 1, T, S)
        cos, sin = self.cos[places][:, :, None], self.sin[places][:, :, None]  # (B, T, 1, D)
        x, scale = F.embedding(ids, self.table), config.qk_gain * D**-0.5  # (B, T, C)
        for i, layer in enumerate(self.layers):
            joined = F.linear(F.rms_norm(x, (C,), eps=eps), layer.qkv).view(B, T, H + 2 * K, D)
            q, k = rotate(F.rms_norm(joined[:, :, : H + K], (D,), eps=eps), cos, sin).split([H, K], dim=2)
            cache.k[i, row, :, places], cache.v[i, row, :, places] = k, joined[:, :, H + K :]
            keys, values = cache.k[i, rows, :, :S], cache.v[i, rows, :, :S]  # (B, K, S, D)
            x = x + F.linear(look(q * scale, keys, values, bias), layer.o)
            gate, up = F.linear(F.rms_norm(x, (C,), eps=eps), layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        at_last = x[torch.arange(B, device=device), last]  # (B, C)
        return F.linear(F.rms_norm(at_last, (C,), eps=eps), self.head)
