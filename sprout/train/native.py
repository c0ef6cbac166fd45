"""The C core behind the training step, `native.c`, where the set-up could build it: what torch computes, row by row."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sprout.common.compute import Compute
from sprout.common.errors import UserError
from sprout.data import Batch
from sprout.model import GPT
from sprout.optim.native import instruction_set

try:
    from sprout.train import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")  # of a block, in the order of native.c


class CoreGradients:
    """`gradients(batch, weight)` of `make_gradients`, for a model on the CPU. One batch at a time; its room, of the size that
    `room_bytes` tells, is kept from step to step, and so is the memory of the gradients: where they were dropped, the next
    batch's take their place, so copy what you keep of them."""

    def __init__(self, model: GPT, compute: Compute) -> None:
        c = model.config
        if _native is None:
            raise UserError("the C core of the training step was not built; a C compiler at set-up does. Take torch.")
        if model.head is None or c.width % 16 or c.hidden % 16 or c.head_size % 32:
            raise UserError(
                f"the C core does models with a head of their own, width and hidden in sixteens and head size in thirty-twos; "
                f"this one has width {c.width}, hidden {c.hidden}, head size {c.head_size}"
                f"{', and its head is the embedding' if model.head is None else ''}. Take torch."
            )
        self.model, self.threads = model, min(compute.threads, 256)
        pairs = c.width % 32 == c.hidden % 32 == 0  # as the integers lie; no model of the dial's has others
        self.set = instruction_set(compute.products if pairs else "float32")
        self.parameters: list[nn.Parameter] = [model.embed, model.head]
        self.parameters += [getattr(block, name) for block in model.blocks for name in MATRICES]
        self.sizes = [p.numel() for p in self.parameters]
        self.memory: Tensor | None = None

    @functools.cached_property
    def step(self) -> Any:
        """Room for rows of the model's context; made at the first step."""
        c = self.model.config
        return _native.step(
            self.set, self.threads, c.layers, c.width, c.heads, c.kv_heads, c.head_size, c.hidden, c.vocab_size,
            c.context, self.model.recompute, c.eps, c.qk_gain,
        )  # fmt: skip

    def _flat(self) -> Tensor:
        """Memory for all gradients, one behind the other: ours, or where gradients lie there to be added to, some of its own. To
        have the system make it anew costs 2 to 4 % of a step."""
        if self.memory is not None and all(p.grad is None for p in self.parameters):
            return self.memory
        numbers = np.empty(sum(self.sizes) + 16, np.float32)
        start = -numbers.ctypes.data // 4 % 16  # at a line of the cache
        flat = torch.from_numpy(numbers[start : start + sum(self.sizes)])
        if self.memory is None:
            self.memory = flat
        return flat

    def __call__(self, batch: Batch, weight: float | Tensor) -> Tensor:
        rows, length = batch.ids.shape
        missing = self.model.config.context - length
        if missing < 0:
            raise ValueError(f"rows of {length} tokens are longer than the model's context of {length + missing}")
        weights = torch.full((rows, length), weight) if isinstance(weight, float) else weight.float()
        # Behind the last target nothing is computed, so a short row costs no more than its length.
        ids, targets, segments, scales = (
            F.pad(x, (0, missing), value=fill).contiguous().numpy()
            for x, fill in ((batch.ids, 0), (batch.targets, -1), (batch.segments, 0), (weights, 0.0))
        )
        flat = self._flat()
        nats = torch.empty(rows, self.model.config.context)
        _native.gradients(
            self.step, [p.detach().numpy() for p in self.parameters], self.model.cos.numpy(), self.model.sin.numpy(),
            ids, targets, segments, scales, nats.numpy(), flat.numpy(),
        )  # fmt: skip
        for p, g in zip(self.parameters, flat.split(self.sizes), strict=True):
            if p.grad is None:
                p.grad = g.view(p.shape)
            else:
                p.grad += g.view(p.shape)
        return nats[:, :length]
