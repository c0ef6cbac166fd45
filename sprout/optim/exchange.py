"""What processes say to each other inside an optimizer's step: everyone's gradients in, everyone's new weights out.

Each tensor is padded to a whole number of shards along its first axis, one shard a process. With one process every
function returns its argument, untouched.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from sprout.common.processes import in_touch, world

# From torch 2.13 on under new names; the old ones still work there and warn.
REDUCE_SCATTER = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
ALL_GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


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
    with in_touch():
        REDUCE_SCATTER(shard, padded(x).contiguous(), op=dist.ReduceOp.SUM)
    return shard / size


def all_gather(shard: Tensor, n: int) -> Tensor:
    """All processes' shards in one tensor (n, ...), the padding cut off."""
    size = world()[1]
    if size == 1:
        return shard
    whole = shard.new_empty(len(shard) * size, *shard.shape[1:])
    with in_touch():
        ALL_GATHER(whole, shard.contiguous())
    return whole[:n]
