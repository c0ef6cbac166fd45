"""Choosing the next token: a whole batch at once, each row by its own settings and its own luck.

Letters: B rows, V vocabulary. No generator holds state: a row's luck is a hash of its seed and the position, so a reply
doesn't depend on who else is in the batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def uniform(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) that depend on seed and position only. Both (B,) integers; returns (B,) float64.

    Twice the finaliser of SplitMix64 (Steele, Lea, Flood 2014), so that neighbouring seeds and positions have nothing
    in common.
    """
    x = _mix(seeds.astype(np.uint64)) + positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(x) >> np.uint64(11)) / 2.0**53


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def filter_logits(logits: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor | None = None) -> Tensor:
    """logits (B, V) with -inf for all but the top_k likeliest (0: all), of these all but the fewest whose probabilities
    add up to top_p (arXiv 1904.09751), and of these all whose probability is below min_p of the likeliest one's (arXiv
    2407.01082). top_k, top_p and min_p are (B,). Of equals the lower id counts first."""
    values, order = logits.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[1], device=logits.device)
    most = torch.where(top_k > 0, top_k, logits.shape[1])[:, None]
    values = values.masked_fill(rank >= most, -torch.inf)
    p = values.double().softmax(-1)
    before = p.cumsum(-1) - p  # probability of all that are likelier
    keep = (before < top_p[:, None]) | (rank == 0) | (top_p[:, None] >= 1)  # rounding drops nothing at top_p = 1
    if min_p is not None:
        keep &= p >= min_p[:, None] * p[:, :1]
    return torch.full_like(logits, -torch.inf).scatter(1, order, values.masked_fill(~keep, -torch.inf))


def penalise(scores: Tensor, said: np.ndarray, reply: np.ndarray, repetition: float, frequency: float, presence: float) -> None:
    """Change the scores (V,) of one row in place: those of all ids in `said` (prompt and reply) by the repetition penalty
    (arXiv 1909.05858), those of the ids in `reply` by their count times `frequency`, and by `presence`."""
    if repetition != 1:
        ids = torch.from_numpy(np.unique(said)).to(scores.device)
        old = scores[ids]
        scores[ids] = torch.where(old > 0, old / repetition, old * repetition)
    if (frequency or presence) and len(reply):
        unique, counts = np.unique(reply, return_counts=True)
        less = torch.from_numpy(counts * frequency + presence).to(scores)
        scores[torch.from_numpy(unique).to(scores.device)] -= less


def choose(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, luck: Tensor) -> Tensor:
    """One token per row of logits (B, V): (B,) int64. All others are (B,); `luck` is uniform in [0, 1).

    Where the temperature is 0 the likeliest token, else the one at which the cumulated probability passes `luck`.
    """
    greedy = logits.argmax(-1)
    if not (temperature > 0).any():
        return greedy
    # Less the maximum first: however low the temperature, the likeliest stays at 0 and nothing overflows.
    heat = torch.where(temperature > 0, temperature, 1)[:, None]
    logits = (logits - logits.amax(-1, keepdim=True)) / heat
    if (top_k > 0).any() or (top_p < 1).any() or (min_p > 0).any():
        logits = filter_logits(logits, top_k, top_p, min_p)
    cumulated = logits.softmax(-1).cumsum(-1, dtype=torch.float64)  # (B, V)
    point = luck.double()[:, None] * cumulated[:, -1:]
    drawn = torch.searchsorted(cumulated, point, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    return torch.where(temperature > 0, drawn, greedy)


def log_probability(logits: Tensor, ids: Tensor) -> Tensor:
    """Nats of ids (B,) under logits (B, V): (B,), not a number where the logits aren't."""
    return logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(-1)
