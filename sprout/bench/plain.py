"""A GPT as anybody would write it in PyTorch: float32, nothing compiled, AdamW. The baseline that ratios are taken to where
no peer can be had, in CI; as many parameters as ours of the same shape, and the same operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sprout.model import GPTConfig


class Layer(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.c, D = c, c.head_size
        self.norm1, self.norm2 = nn.RMSNorm(c.width), nn.RMSNorm(c.width)
        self.qkv = nn.Linear(c.width, (c.heads + 2 * c.kv_heads) * D, bias=False)
        self.out = nn.Linear(c.heads * D, c.width, bias=False)
        self.up = nn.Linear(c.width, c.hidden * 3 // 2, bias=False)
        self.down = nn.Linear(c.hidden * 3 // 2, c.width, bias=False)

    def forward(self, x: Tensor, past: list[Tensor] | None) -> Tensor:
        """x (B, T, C); `past` keys and values (B, K, t, D) of what came before, which grows."""
        c, (B, T, _) = self.c, x.shape
        y = self.qkv(self.norm1(x)).view(B, T, -1, c.head_size).transpose(1, 2)  # (B, H + 2 K, T, D)
        q, k, v = y.split([c.heads, c.kv_heads, c.kv_heads], dim=1)
        if past is not None:
            k, v = (torch.cat([old, new], dim=2) for old, new in zip(past, (k, v), strict=True)) if past else (k, v)
            past[:] = [k, v]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1, enable_gqa=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class PlainGPT(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(c.vocab_size, c.width), nn.Embedding(c.context, c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm, self.head = nn.RMSNorm(c.width), nn.Linear(c.width, c.vocab_size, bias=False)

    def forward(self, ids: Tensor, past: list[list[Tensor]] | None = None) -> Tensor:
        """Logits (B, T, V) of ids (B, T). With `past`, one list for each layer, empty at first, ids are what is new: all of
        a prompt, or one token."""
        at = past[0][0].shape[2] if past and past[0] else 0
        x = self.tokens(ids) + self.places.weight[at : at + ids.shape[1]]
        for i, layer in enumerate(self.layers):
            x = layer(x, None if past is None else past[i])
        return self.head(self.norm(x))

    @torch.inference_mode()
    def write(self, ids: Tensor, new: int) -> Tensor:
        """The likeliest `new` tokens behind ids (B, T), one at a time with a cache: (B, new)."""
        past: list[list[Tensor]] = [[] for _ in self.layers]
        out = []
        for _ in range(new):
            ids = self(ids, past)[:, -1:].argmax(-1)
            out.append(ids)
        return torch.cat(out, dim=1)
