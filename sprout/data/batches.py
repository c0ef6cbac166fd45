"""Which rows a step sees: a function of seed and step alone, so that the loader's position is the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sprout.data.packing import Packed


@dataclass(frozen=True, slots=True)
class Batch:
    """ids (B, T) int64; targets (B, T) int64, -1 where none counts; segments (B, T) int32."""

    ids: Tensor
    targets: Tensor
    segments: Tensor


def batch_rows(n: int, rows: int, step: int, seed: int) -> np.ndarray:
    """Indices of the rows of `step`: consecutive stretches of an endless row of permutations, a new one every epoch."""
    places = np.arange(step * rows, (step + 1) * rows)
    picked = np.empty(rows, dtype=np.int64)
    for epoch in np.unique(places // n):
        order = np.random.default_rng([seed, int(epoch)]).permutation(n)
        inside = places // n == epoch
        picked[inside] = order[places[inside] % n]
    return picked


def get_batch(data: Packed, rows: np.ndarray, device: str = "cpu") -> Batch:
    """The batch of these rows; the target of a place is the next token, where that counts."""
    tokens = data.tokens[rows].astype(np.int64)
    counted = data.counted[rows]
    targets = np.where(counted[:, 1:], tokens[:, 1:], -1)
    segments = data.segments[rows][:, :-1].astype(np.int32)
    parts = (tokens[:, :-1], targets, segments)
    ids, targets_, segments_ = (torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in parts)
    return Batch(ids, targets_, segments_)


class Source(Protocol):
    """Where the batches of a stage come from: `batch` gives this process's rows of a step, a function of the step alone.
    `waited` are the seconds that steps waited for them; `close` ends what goes on in the background."""

    context: int
    waited: float

    def batch(self, step: int, rank: int = 0, size: int = 1, device: str = "cpu") -> Batch: ...

    def close(self) -> None: ...


class Resident:
    """Packed rows in memory as a source: nothing to wait for."""

    waited = 0.0

    def __init__(self, data: Packed, rows: int, seed: int) -> None:
        self.data, self.rows, self.seed, self.context = data, rows, seed, data.context

    def batch(self, step: int, rank: int = 0, size: int = 1, device: str = "cpu") -> Batch:
        """This process's rows of the step."""
        return get_batch(self.data, batch_rows(len(self.data), self.rows, step, self.seed)[rank::size], device)

    def close(self) -> None:
        """Nothing goes on in the background."""
