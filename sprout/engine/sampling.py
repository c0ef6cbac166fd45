"""Choosing the next token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sprout.common.errors import UserError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose. Temperature 0 always takes the likeliest token; top_k 0 and top_p 1 leave everything in.

    The same seed gives the same reply, alone or in a batch. `max_tokens` counts what the model says.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise UserError(f"temperature is {self.temperature}; expected 0 (always the likeliest) or more.")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(f"top_k is {self.top_k} and top_p {self.top_p}; expected top_k >= 0 and 0 < top_p <= 1.")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}; expected at least 1.")


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on seed and position only (the finaliser of SplitMix64)."""
    x = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & (2**64 - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = ((x ^ (x >> shift)) * factor) & (2**64 - 1)
    return ((x ^ (x >> 31)) >> 11) / 2**53


def filter_logits(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """logits (V,) with everything set to -inf but the top_k likeliest, and of these the fewest whose probabilities add
    up to top_p (arXiv 1904.09751)."""
    if top_k and top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)
    if top_p < 1:
        values, order = logits.sort(descending=True)
        p = values.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p  # the sum before this token has already reached top_p
        logits = logits.index_fill(0, order[drop], -torch.inf)
    return logits


def choose(logits: Tensor, settings: list[Sampling], positions: list[int]) -> tuple[Tensor, Tensor]:
    """One token per row of logits (B, V) float32: ids (B,) int64, and their log-probabilities (B,) at temperature 1
    without filters."""
    greedy = logits.argmax(-1)
    picked = greedy
    warm = [i for i, s in enumerate(settings) if s.temperature > 0]
    if warm:
        heat = torch.tensor([settings[i].temperature for i in warm])[:, None]
        scaled = logits[warm] / heat
        for row, i in enumerate(warm):
            if settings[i].top_k or settings[i].top_p < 1:
                scaled[row] = filter_logits(scaled[row], settings[i].top_k, settings[i].top_p)
        cumulated = scaled.double().softmax(-1).cumsum(-1)  # (b, V)
        draws = torch.from_numpy(np.array([uniform(settings[i].seed, positions[i]) for i in warm]))[:, None]
        ids = torch.searchsorted(cumulated, draws * cumulated[:, -1:], right=True)[:, 0]
        picked = greedy.clone()
        picked[warm] = ids.clamp(max=logits.shape[1] - 1)
    return picked, logits.log_softmax(-1).gather(1, picked[:, None])[:, 0]
