"""Keys and values of beginnings that were read before: system messages, earlier turns, prompts asked again.

A running row's cache is contiguous, so that attention reads it without a copy; what should outlive the row is kept here
in blocks of `BLOCK` tokens, and copied into the next row that begins the same. (Attention over blocks in place, as on
GPUs (arXiv 2309.06180), would gather all of them again at every step; LOG.md has the figures.) A block is found by the
block before it and its own ids, so equal beginnings share blocks; the least recently used one makes room.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

import numpy as np
import torch

from sprout.engine import native
from sprout.engine.decoder import KVCache
from sprout.model import GPTConfig
from sprout.model.count import cache_bytes_per_token

BLOCK = 16  # tokens

Key = tuple[int, bytes]  # serial number of the block before (0: none), and the block's own ids


class PrefixStore:
    """At most `blocks` blocks of such a cache's rows, owned by one scheduler; worth nothing once the model's weights change."""

    def __init__(self, cache: KVCache, blocks: int) -> None:
        L, _, K, _, D = cache.k.shape
        self.k, self.v = cache.k.new_zeros(blocks, L, K, BLOCK, D), cache.v.new_zeros(blocks, L, K, BLOCK, D)
        self.free = list(range(blocks))
        self.known: OrderedDict[Key, tuple[int, int]] = OrderedDict()  # serial number and slot, the oldest use first
        self.serials = itertools.count(1)  # never given twice, so that nothing follows a block that was evicted

    @staticmethod
    def bytes(config: GPTConfig, device: torch.device) -> int:
        """Memory of one block of a decoder's cache."""
        return BLOCK * cache_bytes_per_token(config, native.kept(device).itemsize)

    def fetch(self, ids: np.ndarray, cache: KVCache, row: int) -> int:
        """Copy what is known of the beginning of `ids` (T,) into a row of the cache; how many tokens that is."""
        chain = self._find(ids)
        if chain:
            n, slots = len(chain) * BLOCK, torch.tensor([slot for _, slot in chain])
            for kept, to in ((self.k, cache.k), (self.v, cache.v)):
                to[:, row, :, :n] = kept[slots].permute(1, 2, 0, 3, 4).flatten(2, 3)  # (L, K, n, D)
        return len(chain) * BLOCK

    def keep(self, ids: np.ndarray, cache: KVCache, row: int) -> None:
        """Keep the whole blocks of `ids` (T,), which a row of the cache holds, as far as there is room."""
        chain = self._find(ids)
        parent = chain[-1][0] if chain else 0
        mine = {serial for serial, _ in chain}
        for start in range(len(chain) * BLOCK, len(ids) - BLOCK + 1, BLOCK):
            if not self.free:
                oldest, (serial, slot) = next(iter(self.known.items()))
                if serial in mine:
                    return  # all that is kept is this row's own beginning
                del self.known[oldest]
                self.free.append(slot)
            serial, slot = next(self.serials), self.free.pop()
            place = slice(start, start + BLOCK)
            self.k[slot], self.v[slot] = cache.k[:, row, :, place], cache.v[:, row, :, place]
            self.known[parent, ids[place].tobytes()] = serial, slot
            mine.add(serial)
            parent = serial
        self._find(ids)

    def _find(self, ids: np.ndarray) -> list[tuple[int, int]]:
        """Serial numbers and slots of the known blocks that `ids` begins with. They become the last used ones, later
        blocks before earlier ones: what hangs on another block goes first."""
        chain: list[tuple[int, int]] = []
        keys: list[Key] = []
        parent = 0
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            key = (parent, ids[start : start + BLOCK].tobytes())
            if key not in self.known:
                break
            keys.append(key)
            chain.append(self.known[key])
            parent = chain[-1][0]
        for key in reversed(keys):
            self.known.move_to_end(key)
        return chain
