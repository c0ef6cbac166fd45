"""The loss without the logits: cross-entropy of the head's scores, a chunk of tokens at a time.

Whole logits of 8,192 tokens over 50,000 words take 1.6 GB in float32, their gradient as much again, and nobody needs them
afterwards. Here a chunk's logits are made, give their losses and their share of both gradients, and are gone; backward
only multiplies by what came from above (as in Liger, arXiv 2410.10989). N tokens, C channels, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

CHUNK = 2048  # tokens whose logits exist at once: enough rows to keep a matrix product busy


def chunk_on(device: str) -> int:
    """CHUNK, or on a GPU four of them: it has 1 GB for them and takes its time to begin anything."""
    return 4 * CHUNK if device == "cuda" else CHUNK


def _chunk(h: Tensor, w: Tensor, targets: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Nats of targets (n,), and what their sum, each times its scale (n,), gives h (n, C) and w (V, C) as gradients, the
    latter in float32."""
    logits = F.linear(h, w).float()  # (n, V); from here on in place
    counted, at = targets >= 0, targets.clamp(min=0)[:, None]
    logsum = logits.logsumexp(-1, keepdim=True)
    nats = (logsum - logits.gather(1, at))[:, 0] * counted
    # The gradient of cross-entropy: what is believed minus what is.
    logits.sub_(logsum).exp_().scatter_add_(1, at, logits.new_full((1, 1), -1.0).expand(at.shape)).mul_((counted * scales)[:, None])
    wrong = logits.to(w.dtype)
    return nats, wrong @ w, (wrong.T @ h).float()


class _Nats(torch.autograd.Function):
    """The sum of scaled nats, with both gradients made on the way there, and the nats by themselves."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scales: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        w = weight.to(hidden.dtype)
        d_weight = torch.zeros(weight.shape, device=weight.device)
        parts, d_hidden = [], []
        for h, target, scale in zip(hidden.split(chunk), targets.split(chunk), scales.split(chunk), strict=True):
            nats, d_h, d_w = _chunk(h, w, target, scale)
            d_weight += d_w
            d_hidden.append(d_h)
            parts.append(nats)
        ctx.save_for_backward(torch.cat(d_hidden), d_weight.to(weight.dtype))
        nats = torch.cat(parts)
        ctx.mark_non_differentiable(nats)
        return (nats * scales).sum(), nats

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, above: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # type: ignore[override]
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * above.to(d_hidden.dtype), d_weight * above, None, None, None


def scaled_loss(hidden: Tensor, weight: Tensor, targets: Tensor, scales: Tensor, chunk: int = 0) -> tuple[Tensor, Tensor]:
    """The sum of nats, each times its scale (N,), float32, and the nats (N,), 0 where there is no target, of targets (N,)
    int64, -1 where there is none, under logits hidden (N, C) times weight (V, C). Products in hidden's dtype, all else in
    float32, so is the sum of the weight's gradient over chunks. The sum can be differentiated once. `chunk` 0 leaves it to
    the device."""
    chunk = chunk or chunk_on(hidden.device.type)
    if not torch.compiler.is_compiling() and hidden.device.type == "cpu":
        # Tokens without a target need no logits: half of them in finetuning. How many is known only now, which compiled
        # code does not like, and a GPU would have to be waited for.
        counted = targets >= 0
        if not bool(counted.any()):
            return hidden.sum() * 0.0 + weight.sum() * 0.0, torch.zeros(len(targets))
        if not bool(counted.all()):
            total, some = _Nats.apply(hidden[counted], weight, targets[counted], scales[counted], chunk)
            return total, torch.zeros(len(targets)).masked_scatter_(counted, some)
    return _Nats.apply(hidden, weight, targets, scales, chunk)  # type: ignore[no-any-return]


def summed_loss(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = 0) -> Tensor:
    """`scaled_loss` where every token weighs 1: the sum of nats alone."""
    return scaled_loss(hidden, weight, targets, torch.ones(len(targets), device=hidden.device), chunk)[0]


def _one_chunk(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logp = F.linear(hidden, weight.to(hidden.dtype)).float().log_softmax(-1)  # (n, V)
    seen = logp.detach()
    return logp.gather(1, targets[:, None])[:, 0], -(seen.exp() * seen).sum(-1)


def target_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Log-probabilities of targets (N,) int64 and the entropies (N,), detached, in nats, float32: of hidden (N, C) times
    weight (V, C). Backward makes a chunk's logits once more."""
    grad = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    parts = [
        checkpoint(_one_chunk, h, weight, t, use_reentrant=False) if grad else _one_chunk(h, weight, t)
        for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


@torch.no_grad()
def judged(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities of targets (N,) int64, in nats, float32, and whether each is the likeliest word, (N,) bool: of hidden
    (N, C) times weight (V, C), a chunk of tokens at a time."""
    parts = []
    for h, t in zip(hidden.split(chunk := chunk or chunk_on(hidden.device.type)), targets.split(chunk), strict=True):
        logits = F.linear(h, weight.to(h.dtype)).float()
        parts.append((logits.gather(1, t[:, None])[:, 0] - logits.logsumexp(-1), logits.argmax(-1) == t))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
