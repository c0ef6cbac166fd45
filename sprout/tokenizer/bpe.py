"""Byte pair encoding (arXiv 1508.07909): learn which neighbours to merge, and merge them. Pure functions.

A word is a tuple of token ids; ids 0 to 255 are the bytes; merge number i makes token 256 + i.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping

Pair = tuple[int, int]


def merge_pair(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Replace every occurrence of `pair` in ids, from left to right, by `new`."""
    merged, i, last = [], 0, len(ids) - 1
    while i <= last:
        if i < last and ids[i] == pair[0] and ids[i + 1] == pair[1]:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def train_merges(word_counts: Mapping[bytes, int], merges: int) -> list[Pair]:
    """The merges learned from words and how often each occurs, in order; fewer than asked for when no pair is left.

    Each round merges the commonest pair; among equally common ones the pair whose bytes come last in the alphabet. Only
    the words that hold the pair are touched: counts of pairs and the index of words are updated, never recomputed.
    """
    words = [list(word) for word in word_counts]
    counts = list(word_counts.values())
    spelled = [bytes([b]) for b in range(256)]
    pair_counts: Counter[Pair] = Counter()
    where: dict[Pair, set[int]] = defaultdict(set)
    for w, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in itertools.pairwise(word):
            pair_counts[pair] += count
            where[pair].add(w)
    heap = [_entry(pair, count, spelled) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    learned: list[Pair] = []
    while heap and len(learned) < merges:
        minus, _, pair = heapq.heappop(heap)
        if pair_counts[pair] != -minus:  # an old entry: the pair's count has changed since
            continue
        if minus == 0:
            break
        new = 256 + len(learned)
        learned.append(pair)
        spelled.append(spelled[pair[0]] + spelled[pair[1]])
        changed: set[Pair] = set()
        for w in where.pop(pair):
            old, count = words[w], counts[w]
            words[w] = merge_pair(old, pair, new)
            for p in itertools.pairwise(old):
                pair_counts[p] -= count
                changed.add(p)
            for p in zip(words[w], words[w][1:], strict=False):
                pair_counts[p] += count
                changed.add(p)
                where[p].add(w)
        for p in changed:
            if pair_counts[p] > 0:
                heapq.heappush(heap, _entry(p, pair_counts[p], spelled))
        del pair_counts[pair]
    return learned


class _Descending(tuple[bytes, bytes]):
    """A pair of byte strings that a heap gives out greatest first."""

    def __lt__(self, other: object) -> bool:
        return tuple.__gt__(self, other)  # type: ignore[operator]


def _entry(pair: Pair, count: int, spelled: list[bytes]) -> tuple[int, _Descending, Pair]:
    return -count, _Descending((spelled[pair[0]], spelled[pair[1]])), pair


def encode_word(ids: list[int], ranks: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Merge ids, always the pair learned first, the leftmost of several. `ranks` maps a pair to (rank, new id)."""
    if len(ids) > 64:
        return _encode_long(ids, ranks)
    while len(ids) > 1:
        best, at = None, -1
        for i in range(len(ids) - 1):
            found = ranks.get((ids[i], ids[i + 1]))
            if found and (best is None or found < best):
                best, at = found, i
        if best is None:
            break
        ids = merge_pair(ids, (ids[at], ids[at + 1]), best[1])
    return ids


def _encode_long(ids: list[int], ranks: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """The same with a heap over a linked list: n log n, for words of any length."""
    n = len(ids)
    ids = list(ids)
    left, right = list(range(-1, n - 1)), list(range(1, n + 1))
    heap: list[tuple[int, int, int, int, int]] = []

    def offer(i: int) -> None:
        j = right[i]
        if j < n and (found := ranks.get((ids[i], ids[j]))):
            heapq.heappush(heap, (found[0], i, ids[i], ids[j], found[1]))

    for i in range(n - 1):
        offer(i)
    while heap:
        _, i, a, b, new = heapq.heappop(heap)
        j = right[i]
        if ids[i] != a or j >= n or ids[j] != b:
            continue
        ids[i], ids[j] = new, -1
        right[i] = right[j]
        if right[j] < n:
            left[right[j]] = i
        if left[i] >= 0:
            offer(left[i])
        offer(i)
    return [x for x in ids if x >= 0]
