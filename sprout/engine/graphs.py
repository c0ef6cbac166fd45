"""A step on a GPU without its launches: recorded once as a CUDA graph, then played again.

A step of one new token for each row is some twenty small operations a layer. Python needs longer to ask for them than the GPU
to do them, unless all are asked for at once: a graph holds them together with the places of memory that they read and write.
So a graph is good for one number of rows and one reach only. There is one for every power of two of both: the rows that are
too many write to places of the cache that belong to nobody, and what a row can't see yet weighs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sprout.engine.decoder import KVCache

LEAST = 128  # the shortest reach that is recorded


@dataclass(slots=True)
class Recording:
    """A step with what it works on: a cache, ids (B, 1), starts (B,) and last (B,), all 0, and the logits (B, V) that it
    writes. It knows them by their places in memory alone: as long as it may play, they must be held on to."""

    cache: KVCache
    ids: Tensor
    starts: Tensor
    last: Tensor
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    play: Callable[[], Any] = field(default=lambda: None)


def above(n: int, least: int, most: int) -> int:
    """The power of two times `least` that is at least n, or `most` where that is less."""
    while least < n:
        least *= 2
    return min(least, most)


class Graphs:
    """Recordings of `layered(ids, cache, rows, starts, last, reach)`, the step of `Decoder`, each made when it is first wanted."""

    def __init__(self, layered: Callable[..., Tensor]) -> None:
        self.layered = layered
        self.recorded: dict[tuple[int, int, int], Recording] = {}
        self.pool: Any = None  # of memory for what lies between a step's operations: one for all, since one plays at a time

    def step(self, ids: Tensor, cache: KVCache, starts: Tensor, reach: int) -> Tensor:
        """Logits (B, V) of one new token ids (B, 1) for each of the cache's first B rows, which hold `starts` (B,) < reach."""
        (_, total, _, context, _), B = cache.k.shape, len(ids)
        rows, reach = above(B, 1, total), above(reach, LEAST, context)
        key = (rows, reach, cache.k.data_ptr())
        recording = self.recorded.get(key)
        if recording is None:
            recording = Recording(cache, ids.new_zeros(rows, 1), starts.new_zeros(rows), starts.new_zeros(rows))
        recording.ids[:B].copy_(ids)
        recording.starts[:B].copy_(starts)
        recording.starts[B:].zero_()
        if key not in self.recorded:  # now that it has something to work on: recording begins with a step for real
            self.record(recording, rows, reach)
            self.recorded[key] = recording
        recording.play()
        return recording.logits[:B].clone()

    def record(self, recording: Recording, rows: int, reach: int) -> None:
        """Give the recording its logits and what plays it."""

        def step() -> Tensor:
            return self.layered(recording.ids, recording.cache, slice(0, rows), recording.starts, recording.last, reach)

        recording.logits = step()  # libraries take their memory at the first call, which a graph can't hold
        if recording.ids.device.type != "cuda":  # where there are no graphs, the same without one: so it can be tested
            recording.play = lambda: recording.logits.copy_(step())
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            recording.logits = step()
        self.pool, recording.play = graph.pool(), graph.replay
