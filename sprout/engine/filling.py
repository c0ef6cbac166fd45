"""What a batch shows its model before it goes on writing: the tokens that wait in front of each row's last one, as those of a prompt
or of a tool's result do. Letters: B rows, T time."""

from __future__ import annotations

import numpy as np

from sprout.model import GPTConfig

CHUNK = 512  # tokens of a row that are shown at once
WASTE = 32  # tokens of padding that cost as much as another call (1.2 ms against 0.04 ms a token, 1.2M parameters)
LARGEST_SCORES = 1 << 26  # numbers in a fill's attention scores: 256 MB


def waiting(rows: np.ndarray, most: int, eager: bool) -> np.ndarray:
    """How many waiting tokens of each row, `most` in all, are to be shown now: (B,), all 0 where that isn't worth it yet.

    A token that waits costs its row one step in which it gets no new one; showing some holds up all B rows for about one
    step. So for all together it pays once more than B tokens wait; with `eager`, somebody who waits for a first word is
    served at once. The earliest request comes first.
    """
    waits = np.minimum(rows["length"] - rows["seen"] - 1, CHUNK)
    if waits.sum() <= (min(len(rows), 4) if eager else len(rows)):
        return np.zeros_like(waits)
    order = np.argsort(rows["number"])
    before = np.cumsum(waits[order]) - waits[order]
    waits[order] = np.clip(most - before, 0, waits[order])
    return waits


def groups(waits: np.ndarray, seen: np.ndarray, config: GPTConfig) -> list[np.ndarray]:
    """Rows with waiting tokens, in groups of similar numbers of these, so that padding and scores stay small. Of each row the
    model has `seen` so many; a group's rows are all filled up to its longest, which must stay within the context."""
    found: list[np.ndarray] = []
    group: list[int] = []
    furthest = 0  # where the longest row of the group has got to
    for i in np.argsort(waits, kind="stable")[int((waits == 0).sum()) :].tolist():
        T, there = int(waits[i]), int(seen[i])
        reach = max(furthest, there) + T
        padding = (T - int(waits[group[-1]])) * len(group) if group else 0
        scores = (len(group) + 1) * T * reach * config.heads
        if group and (padding > WASTE or reach > config.context or scores > LARGEST_SCORES):
            found.append(np.array(group))
            group, furthest = [], 0
        group.append(i)
        furthest = max(furthest, there)
    return [*found, np.array(group)] if group else found
