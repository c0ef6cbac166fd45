"""The C core behind the optimizer's updates, `native.c`, where the set-up could build it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sprout.optim.muon import NEWTON_SCHULZ_STEPS, QUINTIC

try:
    from sprout.optim import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None


def instruction_set(products: str = "float32") -> str:
    """The widest set of instructions here with such products ("float32" or "int16"), as `native.c` names it."""
    return next(name for name in _native.sets() if (name == "int16") == (products == "int16"))


def does(*tensors: Tensor) -> bool:
    """Whether the C core can update these: float32 on the CPU, matrices in sixteens."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in tensors) and all(
        n % 16 == 0 for n in (tensors[0].shape[-2:] if tensors[0].ndim > 1 else ())
    )


def muon_update(
    matrices: Sequence[Tensor],
    gradients: Sequence[Tensor],
    momentum: Tensor,
    lr: float,
    beta: float,
    decay: float,
    dtype: torch.dtype,
) -> None:
    """As `muon.muon_update`, on n matrices (rows, columns) where they lie, without making one tensor of them; `momentum`
    (n, rows, columns)."""
    rows, columns = momentum.shape[1:]
    p, g = [t.numpy() for t in matrices], [t.numpy() for t in gradients]
    _native.muon(
        instruction_set(), min(torch.get_num_threads(), 256), rows, columns, NEWTON_SCHULZ_STEPS, p, g, momentum.numpy(),
        lr, beta, decay, QUINTIC,
    )  # fmt: skip


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
    """As `adamw.adamw_update`: one step on p (n,) in place."""
    name, threads = instruction_set(), min(torch.get_num_threads(), 256)
    tensors = [t.numpy() for t in (p, g, m, v)]
    _native.adamw(name, threads, *tensors, lr, *betas, eps, decay, 1 - betas[0] ** step, 1 - betas[1] ** step)
