"""What processes say to each other inside an optimizer's step: everyone's gradients in, everyone's new weights out.

Each tensor is padded to a whole number of shards along its first axis, one shard a process. With one process every
function returns its argument, untouched.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) outside `torchrun`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def shard_length(n: int) -> int:
    """How many of n entries a process owns (the last one's may be padding)."""
    return -(-n // world()[1])


def padded(x: Tensor) -> Tensor:
    """x (n, ...) with zeros behind it, up to a whole number of shards."""
    missing = shard_length(len(x)) * world()[1] - len(x)
    return torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x


def own_shard(x: Tensor) -> Tensor:
    """This process's part of x (n, ...), which everybody has."""
    rank, size = world()
    if size == 1:
        return x
    length = shard_length(len(x))
    return padded(x)[rank * length : (rank + 1) * length]


def reduce_scatter_mean(x: Tensor) -> Tensor:
    """The mean over all processes of x (n, ...), this process's shard of it."""
    size = world()[1]
    if size == 1:
        return x
    shard = x.new_empty(shard_length(len(x)), *x.shape[1:])
    dist.reduce_scatter_tensor(shard, padded(x).contiguous(), op=dist.ReduceOp.SUM)
    return shard / size


def all_gather(shard: Tensor, n: int) -> Tensor:
    """All processes' shards in one tensor (n, ...), the padding cut off."""
    size = world()[1]
    if size == 1:
        return shard
    whole = shard.new_empty(len(shard) * size, *shard.shape[1:])
    dist.all_gather_into_tensor(whole, shard.contiguous())
    return whole[:n]


def mean_scalar(x: float) -> float:
    """The mean of a number over all processes."""
    if world()[1] == 1:
        return x
    value = torch.tensor(x, dtype=torch.float64)
    dist.all_reduce(value)
    return float(value) / world()[1]
