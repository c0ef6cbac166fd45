"""Attention of a training step, three ways to the same numbers: written out, or by PyTorch's SDPA or FlexAttention, which
never hold all scores. `sprout.common.compute.decide` says which. Letters as in `layers.py`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sprout.model.layers import causal_attention

KINDS = ("plain", "sdpa", "flex")


def same_segment(segments: Tensor | None, T: int, device: torch.device) -> Tensor:
    """Where a query may look: (B or 1, T, T) bool, True at keys not after it and, with segments (B, T), of its own."""
    mask = torch.ones(T, T, dtype=torch.bool, device=device).tril()[None]
    return mask if segments is None else mask & (segments[:, :, None] == segments[:, None, :])


def make_mask(kind: str, segments: Tensor | None, ids: Tensor) -> Any:
    """What `attend` wants to know of ids (B, T), once for all layers: a bool tensor, FlexAttention's BlockMask, which
    leaves out whole blocks of other documents, or None where SDPA's own causal mask does."""
    T = ids.shape[1]
    if kind == "plain":
        return same_segment(segments, T, ids.device)
    if kind == "sdpa":
        return None if segments is None else same_segment(segments, T, ids.device)[:, None]  # (B, 1, T, T)
    from torch.nn.attention.flex_attention import create_block_mask

    if segments is None:
        return create_block_mask(lambda b, h, t, s: t >= s, None, None, T, T, device=str(ids.device))

    def may_look(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return (t >= s) & (segments[b, t] == segments[b, s])

    return create_block_mask(may_look, len(ids), None, T, T, device=str(ids.device))


def attend(kind: str, q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """Attention of q (B, T, H, D) over k, v (B, T, K, D) as `causal_attention`, with the mask of `make_mask`; (B, T, H, D)."""
    if kind == "plain":
        return causal_attention(q, k, v, mask)
    groups = q.shape[2] // k.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H or K, T, D)
    if kind == "flex":
        from torch.nn.attention.flex_attention import flex_attention

        # Compiled for a CPU, PyTorch 2.13 reads tensors with gaps wrongly: all numbers of the whole model were off.
        q, k, v = (x.contiguous() for x in (q, k, v))
        mixed = flex_attention(q, k, v, block_mask=mask, enable_gqa=groups > 1)
    else:
        # On a GPU the library lets heads share keys, which is twice as fast there (LOG.md); elsewhere not every way can.
        if not (shared := q.is_cuda and mask is None):
            k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=shared)
    return mixed.transpose(1, 2)  # type: ignore[union-attr]
