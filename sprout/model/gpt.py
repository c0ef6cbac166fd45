"""The GPT: token ids in, logits out. Read `layers.py` first."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sprout.model.attention import attend, make_mask
from sprout.model.config import GPTConfig
from sprout.model.instinct import look_back
from sprout.model.layers import gated_mlp, linear, norm, rotary_table, rotate
from sprout.model.loss import scaled_loss

# Far below any row of the table, so that norming a normed table changes nothing and an export loads back as it was.
EMBED_EPS = 1e-20


class Block(nn.Module):
    """Attention and MLP, each on a normed copy of the stream and added back to it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        C, D = config.width, config.head_size
        self.config = config
        self.q = nn.Parameter(torch.empty(config.heads * D, C))
        self.k = nn.Parameter(torch.empty(config.kv_heads * D, C))
        self.v = nn.Parameter(torch.empty(config.kv_heads * D, C))
        self.o = nn.Parameter(torch.empty(C, config.heads * D))
        self.gate = nn.Parameter(torch.empty(config.hidden, C))
        self.up = nn.Parameter(torch.empty(config.hidden, C))
        self.down = nn.Parameter(torch.empty(C, config.hidden))

    def qkv(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, D), keys and values (B, T, K, D) of the stream x (B, T, C); q and k normed per head
        (arXiv 2302.05442) and turned by their positions."""
        B, T, _ = x.shape
        D, eps = self.config.head_size, self.config.eps
        y = norm(x, eps)
        heads = [self.config.heads, self.config.kv_heads, self.config.kv_heads]
        # One product for all three beats three small ones (LOG.md).
        q, k, v = linear(y, torch.cat([self.q, self.k, self.v])).view(B, T, -1, D).split(heads, dim=2)
        return rotate(norm(q, eps) * self.config.qk_gain, cos, sin), rotate(norm(k, eps), cos, sin), v

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add the attention's output (B, T, H, D) and then the MLP's to the stream x (B, T, C)."""
        x = x + linear(mixed.flatten(2), self.o)
        return x + gated_mlp(norm(x, self.config.eps), self.gate, self.up, self.down)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Any, kind: str = "plain") -> Tensor:
        q, k, v = self.qkv(x, cos, sin)
        return self.finish(x, attend(kind, q, k, v, mask))


class GPT(nn.Module):
    """Decoder-only Transformer. Parameters are float32; the stream runs in `dtype` (bfloat16 where it pays)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.dtype = torch.float32
        self.attention = "plain"  # one of attention.KINDS
        self.recompute = False  # keep only the stream between blocks, and run each again on the way back (arXiv 1604.06174)
        self.embed = nn.Parameter(torch.empty(config.vocab_size, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = None if config.tied else nn.Parameter(torch.empty(config.vocab_size, config.width))
        cos, sin = rotary_table(config.context, config.head_size, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Matrices uniform with standard deviation width^-1/2; the last matrix of each branch zero, so that every
        block starts as the identity (arXiv 1901.09321); the embedding has length-1 channels, as after its norm. On top
        of that the instinct of `instinct.py`."""
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if name == "embed":
                p.normal_(0, self.config.width**-0.5 if self.config.tied else 1.0, generator=generator)
            elif name == "head":
                p.normal_(0, 0.001, generator=generator)
            elif name.endswith((".o", ".down")):
                p.zero_()
            else:
                bound = (3 / p.shape[1]) ** 0.5
                p.uniform_(-bound, bound, generator=generator)
        if self.config.layers > 1:
            look_back(self, generator)

    def embedded(self, ids: Tensor) -> Tensor:
        """The normed embedding of ids (B, T): the stream (B, T, C). The norm depends on the token alone, so that an
        export folds it into the table."""
        return norm(F.embedding(ids, self.embed), EMBED_EPS).to(self.dtype)

    def forward(self, ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """Final hidden states (B, T, C) of ids (B, T) int64. With segments (B, T) int, a token sees only earlier
        tokens of its own segment."""
        T = ids.shape[1]
        # FlexAttention that isn't compiled is slower than the plain way.
        kind = "sdpa" if self.attention == "flex" and not torch.compiler.is_compiling() else self.attention
        mask = make_mask(kind, segments, ids)
        x = self.embedded(ids)
        cos, sin = self.cos[None, :T, None].to(x.dtype), self.sin[None, :T, None].to(x.dtype)  # (1, T, 1, D)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, mask, kind, use_reentrant=False)
            else:
                x = block(x, cos, sin, mask, kind)
        return norm(x, self.config.eps)

    def head_product(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The two factors of the logits: hidden states (..., C) as the head takes them, and its weight (V, C)."""
        if self.head is None:  # normed rows would give logits of size sqrt(C); Qwen3's last norm weight carries the factor
            return hidden * self.config.width**-0.5, self.embed_table()
        return hidden, self.head

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., V) of hidden states (..., C), in the stream's dtype."""
        return linear(*self.head_product(hidden))

    def loss(self, hidden: Tensor, targets: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of nats of targets (B, T) int64, -1 where there is none, each times its scale (B, T), after hidden states
        (B, T, C), and the nats (B, T); the logits never exist whole. The plain way: `token_losses(model.logits(hidden)...)`."""
        x, weight = self.head_product(hidden)
        total, nats = scaled_loss(x.flatten(0, -2), weight, targets.flatten(), scales.flatten())
        return total, nats.view(targets.shape)

    def embed_table(self) -> Tensor:
        """The embedding table as it is used: each row normed, (V, C) float32."""
        return norm(self.embed, EMBED_EPS)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats of each target (N,) int64 under logits (N, V); 0 where the target is -1. Returns (N,) float32."""
    return F.cross_entropy(logits.float(), targets, ignore_index=-1, reduction="none")
