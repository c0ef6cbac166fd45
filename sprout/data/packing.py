"""Packing: documents and conversations of any length into rows of one length, none attending into another.

The rules: a document longer than a row is cut into pieces of a row's length ('cut'); a conversation longer than a row
keeps its first whole exchanges ('shortened'), or is dropped if not even the first fits ('too_long'); one with nothing to
learn is dropped ('no_reply'), and so is a row in which nothing is learned, such as a single token left over by a cut
('nothing_to_learn'). The rest of a row is padding. Nothing else is lost, and all of it is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sprout.common.errors import UserError
from sprout.common.files import read_json, write_json

# ids, and the loss mask of a conversation (None: a document, all count)
Item = tuple[list[int] | np.ndarray, list[bool] | None]
Piece = tuple[list[int] | np.ndarray, list[bool] | bool]
OPEN_ROWS = 64  # rows kept open; more would pack a little tighter and slower


@dataclass(frozen=True, slots=True)
class Packed:
    """N rows of context + 1 tokens. `tokens` (N, context+1) uint32; `segments` (N, context+1) int16 numbers the items of
    a row from 1, 0 is padding; `counted` (N, context+1) bool: whether the token is a target that is learned."""

    tokens: np.ndarray
    segments: np.ndarray
    counted: np.ndarray
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def context(self) -> int:
        return self.tokens.shape[1] - 1

    def save(self, folder: Path) -> None:
        """Write the arrays and counts into `folder`; counts last, so that their file says the rest is there."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("tokens", "segments", "counted"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        write_json(folder / "dropped.json", self.dropped)

    @classmethod
    def load(cls, folder: Path) -> Packed:
        """Map what `save` wrote into memory."""
        arrays = [
            np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in ("tokens", "segments", "counted")
        ]
        return cls(arrays[0], arrays[1], arrays[2], read_json(folder / "dropped.json"))


def fit(item: Item, length: int, end: int | None, dropped: Counter[str]) -> list[Piece]:
    """An item as pieces of at most `length` tokens, by the rules above; `end` is the id that ends a message."""
    ids, mask = item
    if mask is None:
        if len(ids) > length:
            dropped["cut"] += 1
        return [(ids[i : i + length], True) for i in range(0, len(ids), length)]
    if len(ids) > length:
        # The last place where an assistant's message ends within the row.
        stop = next((i + 1 for i in range(length - 1, 0, -1) if ids[i] == end and mask[i]), 0)
        dropped["shortened" if stop else "too_long"] += 1
        ids, mask = ids[:stop], mask[:stop]
    if len(ids) and not any(mask):
        dropped["no_reply"] += 1
        return []
    return [(ids, mask)] if len(ids) else []


def pack(
    items: Iterable[Item], context: int, pad: int, end: int | None = None, every_token: bool = False
) -> Packed:
    """Pack items into rows of context + 1 tokens: each goes into the open row that it fills best (best fit). With
    `every_token` the user's words in conversations are learned as well."""
    length = context + 1
    dropped: Counter[str] = Counter()
    rows: list[list[Piece]] = []
    spaces: list[tuple[int, int]] = []  # (free places, row), sorted
    for item in items:
        for piece in fit(item, length, end, dropped):
            need = len(piece[0])
            at = bisect_left(spaces, (need, -1))
            if at < len(spaces):
                free, where = spaces.pop(at)
                rows[where].append(piece)
            else:
                free, where = length, len(rows)
                rows.append([piece])
                if len(spaces) >= OPEN_ROWS:
                    spaces.pop(0)  # the fullest is closed
            if free - need > 1:
                entry = (free - need, where)
                spaces.insert(bisect_left(spaces, entry), entry)
    tokens = np.full((len(rows), length), pad, dtype=np.uint32)
    segments = np.zeros((len(rows), length), dtype=np.int16)
    counted = np.zeros((len(rows), length), dtype=bool)
    for r, row in enumerate(rows):
        at = 0
        for number, (ids, mask) in enumerate(row, 1):
            to = at + len(ids)
            tokens[r, at:to], segments[r, at:to], counted[r, at:to] = ids, number, mask
            counted[r, at:to] |= every_token
            counted[r, at] = False  # the first token of an item is nobody's target
            at = to
    keep = counted.any(axis=1)
    if not keep.any():
        raise UserError("there is nothing to learn from: no document or reply of at least two tokens. Give more text.")
    if lost := int((~keep).sum()):
        dropped["nothing_to_learn"] = lost
    return Packed(tokens[keep], segments[keep], counted[keep], dict(dropped))
