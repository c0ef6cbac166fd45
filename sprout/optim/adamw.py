"""AdamW (arXiv 1412.6980, 1711.05101), for embeddings, the head and everything that isn't a matrix of a block."""

from __future__ import annotations

from torch import Tensor


def adamw_update(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> None:
    """One step on p in place; g, m, v have its shape; `step` counts from 1 and corrects the averages' start at 0."""
    m.lerp_(g, 1 - betas[0])
    v.lerp_(g.square(), 1 - betas[1])
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    p.mul_(1 - lr * decay).sub_(m_hat / (v_hat.sqrt() + eps), alpha=lr)
