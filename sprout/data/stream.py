"""Batches of a corpus that streams: read, shuffled, tokenised and packed ahead of the step, in the background.

The corpus becomes an endless row of windows, each of about WINDOW characters of text. Every epoch takes the blocks in
another order, which the seed decides; a window's documents are shuffled (it is the shuffle buffer), packed into rows, and
the rows shuffled once more. So a window is a function of the seed and of the position where it begins, and nothing
reaches from one into the next. Step k takes the rows from k * rows on, whatever number of processes share them.

The index (`stream.jsonl`) is a line per window: its first row and where it begins. A run that goes on reads from the
window that holds its step; what the index lacks is made again, the same, from the last window it has. Held-out documents
(`split_of`, by content) are passed over.

Memory: three windows, one that steps take rows from, one that waits, and one that is being made.
"""

from __future__ import annotations

import contextlib
import json
import queue
import random
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sprout.common.errors import UserError
from sprout.common.hashing import split_of, stable_hash
from sprout.data.batches import Batch, get_batch
from sprout.data.packing import Item, Packed, pack
from sprout.data.shards import BLOCK, Corpus
from sprout.tokenizer import Tokenizer

WINDOW = 8_000_000  # characters, some 2 million tokens


class Position(NamedTuple):
    """What has been read: all blocks of the epochs before, `block` blocks of this epoch's order, and of the next one
    `document` documents."""

    epoch: int
    block: int
    document: int


START = Position(0, 0, 0)


def windows(corpus: Corpus, seed: int, at: Position = START, size: int = WINDOW) -> Iterator[tuple[list[str], Position]]:
    """Endless: the training documents from `at` on, `size` characters or the rest of an epoch at a time, and what has been
    read then. Raises UserError where a whole epoch has none."""
    while True:
        texts: list[str] = []
        length, seen = 0, at != Position(at.epoch, 0, 0)  # of a part of an epoch nothing can be said
        border = corpus.border if at.epoch == 0 else corpus.border.quiet()  # each thing is counted once
        order = np.random.default_rng([seed, at.epoch]).permutation(len(corpus.blocks))
        for place in range(at.block, len(order)):
            skip = at.document if place == at.block else 0
            for number, text in enumerate(islice(corpus.documents(order[place], border), skip, None), skip + 1):
                if split_of(text) == "validation":
                    continue
                texts.append(text)
                length, seen = length + len(text), True
                if length >= size:
                    yield texts, Position(at.epoch, place, number)
                    texts, length = [], 0
        at = Position(at.epoch + 1, 0, 0)
        if texts:
            yield texts, at
        if not seen:
            raise UserError(
                f"there is nothing to train on: none of the corpus's {len(order):,} blocks holds a document that isn't held out "
                f"({corpus.border.dropped or 'nothing was left out'}). Give more text."
            )


class Index:
    """Where the windows begin: `rows[i]` is the first row of window i, `positions[i]` where it begins. Kept in a file that
    belongs to `key`; with another one it is begun anew. One process writes (`write`), all read."""

    def __init__(self, path: Path | None, key: str, write: bool) -> None:
        self.path, self.key, self.write = path, key, write
        self.rows, self.positions = [0], [START]
        lines = path.read_bytes().splitlines(keepends=True) if path and path.is_file() else []
        sound = 0
        for line in lines:
            try:
                found = json.loads(line)
                if not line.endswith(b"\n") or (sound == 0 and found != {"key": key}):
                    break
                if sound:
                    row, epoch, block, document = map(int, found)
                    self.rows.append(row)
                    self.positions.append(Position(epoch, block, document))
            except (ValueError, TypeError):  # torn
                break
            sound += 1
        if path and write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(lines[:sound]) or json.dumps({"key": key}).encode() + b"\n")

    def window_of(self, row: int) -> int:
        """The last known window that begins at or before the row."""
        return bisect_right(self.rows, row) - 1

    def add(self, row: int, position: Position) -> None:
        """A window begins here, behind all that are known; one that is known already is left as it is."""
        if row <= self.rows[-1]:
            return
        self.rows.append(row)
        self.positions.append(position)
        if self.path and self.write:
            with self.path.open("ab") as file:
                file.write(json.dumps([row, *position]).encode() + b"\n")


class Window(NamedTuple):
    """Rows `first` to `first + len(order)` of the stream: those of `packed`, in `order`."""

    first: int
    packed: Packed
    order: np.ndarray


Windows = queue.Queue[Window | BaseException]  # what is ready, or what went wrong


class Stream:
    """A corpus as a source of batches (see `batches.Source`). A thread makes the windows; it is begun by the first batch
    and ended by `close`. The C core and the readers leave the interpreter to the step while they work.

    `waited` are the seconds that steps waited for a window, `first_wait` those of the first one, which nothing could be
    made ahead of. `mix(seed)` gives other documents, endless: one behind each of the corpus's own.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Tokenizer,
        context: int,
        rows: int,
        seed: int,
        index: Path | None = None,
        write: bool = True,
        mix: Callable[[int], Iterator[str]] | None = None,
        size: int = WINDOW,
    ) -> None:
        self.corpus, self.tokenizer, self.context, self.rows = corpus, tokenizer, context, rows
        self.seed, self.mix, self.size = seed, mix, size
        key = stable_hash(corpus.fingerprint, tokenizer.fingerprint, context, seed, size, BLOCK, len(corpus.blocks))
        self.index = Index(index, f"{key:016x}", write)
        self.dropped: Counter[str] = Counter()
        self.waited = self.first_wait = 0.0
        self._queue: Windows = queue.Queue()
        self._window: Window | None = None
        self._thread: threading.Thread | None = None
        self._stop, self._first = threading.Event(), True
        self._failed: BaseException | None = None

    def batch(self, step: int, rank: int = 0, size: int = 1, device: str = "cpu") -> Batch:
        """This process's rows of the step. Steps come in order; one before the last is made anew. Raises what was raised
        in the background."""
        wanted = np.arange(step * self.rows, (step + 1) * self.rows)[rank::size]
        parts: list[list[np.ndarray]] = []
        while len(wanted):
            window = self._window_at(int(wanted[0]))
            inside = wanted[wanted < window.first + len(window.order)]
            rows = window.order[inside - window.first]
            parts.append([window.packed.tokens[rows], window.packed.segments[rows], window.packed.counted[rows]])
            wanted = wanted[len(inside) :]
        if not parts:  # more processes than rows
            nothing = np.zeros((0, self.context + 1), np.uint32)
            return get_batch(Packed(nothing, nothing.astype(np.int16), nothing.astype(bool), {}), np.arange(0), device)
        tokens, segments, counted = (np.concatenate(x) for x in zip(*parts, strict=True))
        return get_batch(Packed(tokens, segments, counted, {}), np.arange(len(tokens)), device)

    def _window_at(self, row: int) -> Window:
        """The window that holds the row."""
        if self._thread is None or (self._window and row < self._window.first):
            self._begin(row)
        while self._window is None or row >= self._window.first + len(self._window.order):
            self._window = None  # its memory is free while the next one is awaited
            self._window = self._take()
        return self._window

    def _take(self) -> Window:
        """The next window of the queue, waiting for it where it isn't made yet."""
        began = time.perf_counter()
        found: Window | BaseException | None = self._failed
        while found is None:
            with contextlib.suppress(queue.Empty):  # a wait without end would not hear Ctrl-C everywhere
                found = self._queue.get(timeout=1)
        seconds = time.perf_counter() - began
        if self._first:
            self.first_wait, self._first = self.first_wait + seconds, False
        else:
            self.waited += seconds
        if isinstance(found, BaseException):
            self._failed = found  # nothing comes after it
            raise found
        return found

    def _begin(self, row: int) -> None:
        """Read on in the background from the window that holds the row."""
        self.close()
        self._queue, self._stop, self._first = queue.Queue(maxsize=1), threading.Event(), True
        task = (self.index.window_of(row), self._queue, self._stop)
        self._thread = threading.Thread(target=self._work, args=task, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what it has made is dropped. One that waits for a slow disk or the hub is not waited for."""
        if self._thread:
            self._stop.set()
            self._thread.join(timeout=5)
        self._thread = self._window = self._failed = None

    # ------------------------------------------------------------ in the background

    def _work(self, number: int, out: Windows, stop: threading.Event) -> None:
        row, at = self.index.rows[number], self.index.positions[number]
        try:
            for texts, after in windows(self.corpus, self.seed, at, self.size):
                window = self._made(row, texts, at, stop)
                if window is None:
                    return
                row, at = row + len(window.order), after
                self.index.add(row, at)
                put(window, out, stop)
                del texts, window
        except BaseException as error:
            put(error, out, stop)

    def _made(self, row: int, texts: list[str], at: Position, stop: threading.Event) -> Window | None:
        """The documents that begin at a position as the window of the rows from `row` on; None once it should stop."""
        seed = stable_hash(self.seed, *at)
        if self.mix:
            texts = [text for pair in zip(texts, self.mix(seed), strict=False) for text in pair]
        random.Random(seed).shuffle(texts)
        edge = np.array([self.tokenizer.specials["<|endoftext|>"]], np.uint32)
        items: list[Item] = []
        for text in texts:
            if stop.is_set():
                return None
            items.append((np.concatenate([edge, self.tokenizer.encode_array(text), edge]), None))
        packed = pack(items, self.context, int(edge[0]))
        self.dropped.update(packed.dropped)
        return Window(row, packed, np.random.default_rng(seed).permutation(len(packed)))


def put(thing: Window | BaseException, out: Windows, stop: threading.Event) -> None:
    """Into the queue as soon as there is room, unless it should stop."""
    while not stop.is_set():
        try:
            return out.put(thing, timeout=0.1)
        except queue.Full:
            pass
