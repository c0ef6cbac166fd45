"""How much memory training takes, told before it begins. What the C core takes is counted to the byte; what torch takes
is worked out from what each operation keeps for the way back, and measured (LOG.md)."""

from __future__ import annotations

import torch

from sprout.common.compute import Compute
from sprout.model import GPTConfig
from sprout.model.count import parameters
from sprout.model.dial import matrix_parameters, round_up

BLOCK, CHUNK, PANEL = 64, 128, 64  # as in native.c
POINTERS = 3 * 8 + 22 * 8 + 64  # not worth an exact count: tables of pointers, one a layer


def core_bytes(shape: GPTConfig, threads: int, context: int, recompute: bool = False) -> int:
    """What `_native.step` takes: the weights packed twice, each thread's room for a row, and its gradients (the first
    thread's are the result and not of these). The pointers beside them are left out; they are a few kB."""
    C, D, F, H, K, L = shape.width, shape.head_size, shape.hidden, shape.heads, shape.kv_heads, shape.layers
    T, V, wide, J = round_up(context, 64), round_up(shape.vocab_size, 64), H * D, (H + 2 * K) * D
    C64, F64, J64, W64, D64 = (round_up(n, 64) for n in (C, F, J, wide, D))
    packed = C * V + V * C64
    packed += L * (C * J64 + J * C64 + wide * C64 + C * W64 + C * round_up(2 * F, 64) + 2 * F * C64 + F * C64 + C * F64)
    kept = 1 if recompute else L  # layers whose insides are there at once
    layer = C + J + wide + 2 * F + H + 2 + H + K
    rows = max(T, CHUNK)
    room = T * (C * (L + 1) + kept * layer)
    room += T * (1 + 3 * C + F + wide + J + 4 * D64) + BLOCK * (2 * T + D64) + CHUNK * (V + 1)
    room += rows * max(C64, F64, W64) + max(T * max(2 * F, J, C), CHUNK * V) + 8 * rows
    return 4 * (packed + threads * room + (threads - 1) * parameters(shape))


def optimizer_bytes(shape: GPTConfig) -> int:
    """The optimizer's state: one float32 for each number of a matrix, two for those of embedding and head."""
    table = shape.vocab_size * shape.width
    inside = matrix_parameters(shape) - table
    return 4 * inside + 8 * (parameters(shape) - inside)
