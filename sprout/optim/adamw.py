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
    v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    # m / short over sqrt(v / of) + eps, without a pass over either for its correction
    short, of = 1 - betas[0] ** step, (1 - betas[1] ** step) ** 0.5
    p.mul_(1 - lr * decay).addcdiv_(m, v.sqrt().add_(eps * of), value=-lr * of / short)
