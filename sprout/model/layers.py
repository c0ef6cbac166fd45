"""The parts of a block, each a small pure function: norm, rotary embedding, attention, gated MLP.

Letters for shapes: B batch, T time (queries), S time (keys), C channels, H heads, K key/value heads, D head size,
V vocabulary, F hidden channels of the MLP.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# MKL, behind torch on x86, looks up how to compute each of these at its first call, and where two threads make that call
# together, one may compute with the least accuracy: cosines were off by 1.5e-4 in one process of four (LOG.md;
# pytorch/pytorch#188792). So the first call is made here, by one thread.
for function in (torch.cos, torch.sin, torch.exp, torch.sqrt):
    function(torch.ones(1))


def norm(x: Tensor, eps: float) -> Tensor:
    """RMSNorm without a weight (arXiv 1910.07467), computed in float32, returned in x's dtype. Shape kept."""
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., in) times weight (out, in): (..., out). The float32 weight is cast to x's dtype on the fly."""
    return F.linear(x, weight.to(x.dtype))


def rotary_table(context: int, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position x frequency (arXiv 2104.09864), both (context, D) float32."""
    frequency = theta ** (-torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)  # (T, D/2)
    angle = torch.cat([angle, angle], dim=-1)  # (T, D): channel i turns with channel i + D/2
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of channels of x (B, T, H, D) by its position's angle; cos, sin (B or 1, T, 1, D)."""
    left, right = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-right, left], dim=-1) * sin).to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention of q (B, T, H, D) over k, v (B, S, K, D); mask (B or 1, T, S) is True where a query may look.

    Each key/value head serves H / K query heads (arXiv 2305.13245). Returns (B, T, H, D). Written out rather than
    through a library: at this size the compiler fuses mask and softmax, and the products dominate.
    """
    B, T, H, D = q.shape
    S, K = k.shape[1], k.shape[2]
    G = H // K
    q = q.view(B, T, K, G, D).permute(0, 2, 3, 1, 4).reshape(B * K, G * T, D)
    k = k.permute(0, 2, 3, 1).reshape(B * K, D, S)
    v = v.permute(0, 2, 1, 3).reshape(B * K, S, D)
    scores = torch.bmm(q, k).view(B, K, G, T, S).float() * D**-0.5
    weights = scores.masked_fill(~mask[:, None, None], -1e9).softmax(-1).to(v.dtype)
    mixed = torch.bmm(weights.view(B * K, G * T, S), v)  # (B*K, G*T, D)
    return mixed.view(B, K, G, T, D).permute(0, 3, 1, 2, 4).reshape(B, T, H, D)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, blocks: int = 4) -> Tensor:
    """`attention` where query t looks at no key after t (the mask says so too), as in training: S = T. Taken in blocks of
    queries, so that most scores of keys that come later are never computed: with 4 blocks 5/8 of the work is left."""
    size = -(-q.shape[1] // blocks)
    ends = range(size, q.shape[1] + size, size)
    parts = [attention(q[:, e - size : e], k[:, :e], v[:, :e], mask[:, e - size : e, :e]) for e in ends]
    return torch.cat(parts, dim=1)


def gated_mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU (arXiv 2002.05202): x (..., C) through gate, up (F, C) and down (C, F)."""
    a, b = linear(x, torch.cat([gate, up])).chunk(2, dim=-1)  # one product for both
    return linear(F.silu(a) * b, down)
