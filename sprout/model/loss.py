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


def _chunk(h: Tensor, w: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Nats of targets (n,), summed, and the gradients of h (n, C) and of w (V, C), the latter in float32."""
    logits = F.linear(h, w).float()  # (n, V); from here on in place
    counted, at = targets >= 0, targets.clamp(min=0)[:, None]
    logsum = logits.logsumexp(-1, keepdim=True)
    nats = ((logsum - logits.gather(1, at))[:, 0] * counted).sum()
    # The gradient of cross-entropy: what is believed minus what is.
    logits.sub_(logsum).exp_().scatter_add_(1, at, logits.new_full((1, 1), -1.0).expand(at.shape)).mul_(counted[:, None])
    wrong = logits.to(w.dtype)
    return nats, wrong @ w, (wrong.T @ h).float()


class _Nats(torch.autograd.Function):
    """The sum of nats, with both gradients made on the way there."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        w = weight.to(hidden.dtype)
        total = torch.zeros((), device=hidden.device)
        d_weight = torch.zeros(weight.shape, device=weight.device)
        d_hidden = []
        for h, target in zip(hidden.split(chunk), targets.split(chunk), strict=True):
            nats, d_h, d_w = _chunk(h, w, target)
            total += nats
            d_weight += d_w
            d_hidden.append(d_h)
        ctx.save_for_backward(torch.cat(d_hidden), d_weight.to(weight.dtype))
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * above.to(d_hidden.dtype), d_weight * above, None, None


def summed_loss(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = CHUNK) -> Tensor:
    """The sum of nats, float32, of targets (N,) int64, -1 where there is none, under logits hidden (N, C) times weight
    (V, C). Products in hidden's dtype, all else in float32, so is the sum of the weight's gradient over chunks. Can be
    differentiated once."""
    if not torch.compiler.is_compiling() and hidden.device.type == "cpu":
        # Tokens without a target need no logits: half of them in finetuning. How many is known only now, which compiled
        # code does not like, and a GPU would have to be waited for.
        counted = targets >= 0
        if not bool(counted.all()):
            hidden, targets = hidden[counted], targets[counted]
    if not len(targets):
        return hidden.sum() * 0.0 + weight.sum() * 0.0
    return _Nats.apply(hidden, weight, targets, chunk)  # type: ignore[no-any-return]


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
