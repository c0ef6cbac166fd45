"""The C core behind the optimizer's updates, `native.c`, where the set-up could build it."""

from __future__ import annotations

import torch
from torch import Tensor

from sprout.optim.muon import NEWTON_SCHULZ_STEPS, QUINTIC

try:
    from sprout.optim import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None


def instruction_set(dtype: torch.dtype) -> str:
    """The widest set of instructions here whose products are of this dtype, as `native.c` names it."""
    return next(name for name in _native.sets() if (name == "bf16") == (dtype == torch.bfloat16))


def does(*tensors: Tensor) -> bool:
    """Whether the C core can update these: float32 on the CPU, matrices in sixteens."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in tensors) and (
        tensors[0].ndim == 1 or (tensors[0].shape[-1] % 16 == 0 and tensors[0].shape[-2] % 16 == 0)
    )


def muon_update(p: Tensor, g: Tensor, momentum: Tensor, lr: float, beta: float, decay: float, dtype: torch.dtype) -> None:
    """As `muon.muon_update`: one step on matrices p (n, rows, columns) in place."""
    name, threads = instruction_set(dtype), torch.get_num_threads()
    p_, g_, m_ = p.numpy(), g.numpy(), momentum.numpy()
    _native.muon(name, threads, p.shape[1], p.shape[2], NEWTON_SCHULZ_STEPS, p_, g_, m_, lr, beta, decay, QUINTIC)


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
    name, threads = instruction_set(torch.float32), torch.get_num_threads()
    tensors = [t.numpy() for t in (p, g, m, v)]
    _native.adamw(name, threads, *tensors, lr, *betas, eps, decay, 1 - betas[0] ** step, 1 - betas[1] ** step)
