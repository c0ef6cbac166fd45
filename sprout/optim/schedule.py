"""The learning rate over time: warm up, hold, decay."""

from __future__ import annotations


def schedule(step: int, steps: int, warmup: int, decay: int, floor: float = 0.0) -> float:
    """The learning rate's multiplier at `step` (from 0) of `steps`: rises linearly to 1 over `warmup` steps, stays,
    and falls linearly to `floor` over the last `decay` steps (arXiv 2405.18392)."""
    rise = (step + 1) / warmup if step < warmup else 1.0
    left = steps - step
    fall = floor + (1 - floor) * left / (decay + 1) if left <= decay else 1.0
    return min(rise, fall)
