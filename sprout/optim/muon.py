"""Muon: momentum, made orthogonal, for the matrices inside the blocks (Keller Jordan 2024; arXiv 2502.16982)."""

from __future__ import annotations

import torch
from torch import Tensor

# Coefficients of the quintic whose iteration drives singular values to about 1 (Keller Jordan, 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(g: Tensor, steps: int = NEWTON_SCHULZ_STEPS, dtype: torch.dtype = torch.float32) -> Tensor:
    """Replace the singular values of each matrix of g (n, rows, columns) by numbers near 1, by Newton-Schulz iteration.

    Returns the same shape in `dtype`, that of the matrix products; bfloat16 is accurate enough.
    """
    a, b, c = QUINTIC
    tall = g.shape[-2] > g.shape[-1]
    x = (g.mT if tall else g).to(dtype)
    length = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
    x = x / (length * 1.01 + 1e-7).to(dtype)
    for _ in range(steps):  # x = a x + (b s + c s s) x; the sums are made by the products, without a pass of their own
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def muon_update(
    p: Tensor, g: Tensor, momentum: Tensor, lr: float, beta: float, decay: float, dtype: torch.dtype
) -> None:
    """One step on matrices p (n, rows, columns) in place; g is their gradient, `momentum` their running average.

    The step of a matrix taller than wide is scaled by sqrt(rows / columns), so that outputs move equally far.
    """
    momentum.lerp_(g, 1 - beta)
    direction = orthogonalise(g.lerp(momentum, beta), dtype=dtype)  # Nesterov: look one step ahead
    scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
    p.mul_(1 - lr * decay).sub_(direction, alpha=lr * scale)
