"""From the first word between processes to the last: they meet, look after each other, and end together.

Each process sets a counter in torchrun's store every two seconds. The first one watches all counters, the others watch
the first's; whoever stands still for 25 seconds is gone (killed, stopped, or without a network), and everybody ends
within the minute, saying so. Where a process ends by a mistake of the user or by Ctrl-C it tells the others why. All this
is done by two threads, since the main one may wait for an answer that never comes.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

from sprout.common.errors import Interrupted, Lost, UserError
from sprout.common.processes import Place, in_touch

BEAT = 2.0  # seconds between two signs of life
COMES = 300.0  # seconds that a process has to come up: importing torch from a cold network disk takes its time
GRACE = 3.0  # seconds that a main thread has to notice by itself that another process is gone
SAVES = 20.0  # seconds that saving may take after SIGTERM; torchrun kills after 30
STUCK = timedelta(minutes=30)  # that all are alive and one answer takes; the first may be reading a large corpus
AGAIN = 75  # exit status: EX_TEMPFAIL


def silence_seconds() -> float:
    """Seconds without a sign of life until a process counts as gone: 25, or what SPROUT_SILENCE_SECONDS says."""
    return float(os.environ.get("SPROUT_SILENCE_SECONDS", "25"))


class Together:
    """The time in which the processes belong together, as a context. With one process it does nothing.

    `how_to_go_on` is asked, at a bad end, for a sentence; `last_words` is called with the reason before a process ends
    without passing through its main thread.
    """

    def __init__(self, place: Place, how_to_go_on: Callable[[], str]) -> None:
        self.place, self.how_to_go_on = place, how_to_go_on
        self.last_words: Callable[[str], None] = lambda reason: None
        self.silence = silence_seconds()
        self.leaving = threading.Event()
        self.ended: dict[str, Any] | None = None  # who ended first, and why
        self.ended_at = 0.0
        self.heard = time.monotonic()  # when the store answered last
        self.speaking = threading.Lock()  # held by the thread that tells why it ends, for good

    # ---------------------------------------------------------------------------------------- beginning and end

    def __enter__(self) -> Together:
        if self.place.size == 1:
            return self
        self.store, self.torchs = self._stores()
        self.pipe, self.bell = socket.socketpair()
        self.bell.setblocking(False)
        self.woken = signal.set_wakeup_fd(self.bell.fileno(), warn_on_full_buffer=False)
        self.terminate = signal.signal(signal.SIGTERM, lambda number, frame: None)  # `_guard` hears it, whatever waits
        self.threads = [threading.Thread(target=f, daemon=True, name=f.__name__) for f in (self._talk, self._guard)]
        for thread in self.threads:
            thread.start()
        return self

    def _stores(self) -> tuple[dist.Store, dist.Store]:
        """Two connections to the store where all meet: one for here, and one for torch, whose requests may wait long and
        make others on the same connection wait. Raises Lost where the first host doesn't answer."""
        address, port, rank = self.place.address, self.place.port, self.place.rank
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun
        with in_touch():
            torchs = dist.TCPStore(address, port, None, rank == 0 and not hosted, timedelta(seconds=COMES), wait_for_workers=False)
            ours = dist.TCPStore(address, port, None, False, timedelta(seconds=COMES), wait_for_workers=False)
            ours.set_timeout(timedelta(seconds=self.silence))
            # A store may outlive torchrun's restarts, and what stood there before must not be found again.
            attempt = ours.add(f"sprout/arrivals/{rank}", 1)
        return dist.PrefixStore(f"sprout/{attempt}", ours), dist.PrefixStore(f"torch/{attempt}", torchs)

    def join(self, backend: str) -> None:
        """Meet the others; a collective. Raises Lost where they don't come."""
        if self.place.size > 1:
            with in_touch():
                dist.init_process_group(
                    backend, timeout=STUCK, rank=self.place.rank, world_size=self.place.size, store=self.torchs
                )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.place.size == 1 or self.leaving.is_set():
            return
        if error is None:
            try:
                self.part()
            except Lost as lost:
                self._explain(lost)
                self._leave()
                raise
            return
        if not self.speaking.acquire(blocking=False):
            time.sleep(60)  # `_guard` is ending this process
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending as fast as it can
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, Lost):  # a signal may have come on the way here
            cause = cause.__context__ if isinstance(cause, KeyboardInterrupt) else None
        if isinstance(cause, Lost):
            self._explain(cause)
            if cause is not error:
                self._leave()
                raise cause from None
        else:
            text = "Ctrl-C" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            by_hand = isinstance(error, Interrupted | KeyboardInterrupt)
            self._announce(text, 130 if by_hand else 2 if isinstance(error, UserError) else AGAIN)
            error.quiet = self._said_by_first(text)  # type: ignore[attr-defined]
        self._leave()

    def part(self) -> None:
        """All is done, as soon as everybody is here; a collective."""
        if self.place.size > 1:
            with in_touch():
                dist.all_reduce(torch.zeros(1))  # on the CPU, where a barrier would be between GPUs
            self._leave()
            dist.destroy_process_group()

    def _leave(self) -> None:
        self.leaving.set()
        signal.set_wakeup_fd(self.woken)
        signal.signal(signal.SIGTERM, self.terminate)

    # ---------------------------------------------------------------------------------------- telling why

    def _announce(self, text: str, status: int) -> None:
        """Tell the others that this process ends, and with which exit status."""
        rank = self.place.rank
        record = {"rank": rank, "host": platform.node(), "text": text[:4000], "status": status}

        def tell(store: dist.Store) -> None:
            store.set(f"ended/{rank}", json.dumps(record))
            store.compare_set("ended", "", json.dumps(record))

        self._ask(tell)

    def _ask(self, what: Callable[[dist.Store], None]) -> None:
        """Use the store for at most two seconds, since an answer may never come."""

        def work() -> None:
            with contextlib.suppress(RuntimeError):
                what(self.store)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(2.0)

    def _said_by_first(self, text: str) -> bool:
        """Whether the first process ends with the same words; then they need not be said again."""
        found: list[str] = []

        def look(store: dist.Store) -> None:
            if store.check(["ended/0"]):
                found.append(json.loads(store.get("ended/0"))["text"])

        for _ in range(10 if self.place.rank else 0):
            self._ask(look)
            if found:
                return found[0] == text[:4000]
            time.sleep(0.2)
        return False

    def _look(self) -> None:
        """See whether somebody told why it ended."""

        def look(store: dist.Store) -> None:
            if self.ended is None and store.check(["ended"]):
                self._hear(json.loads(store.get("ended")))

        self._ask(look)

    def _explain(self, error: Lost) -> None:
        """Replace what torch said by what really happened, once that is known."""
        until = time.monotonic() + GRACE
        while self.ended is None and time.monotonic() < until:
            self._look()
            time.sleep(0.2)
        why = self._reason() if self.ended else str(error)
        self._announce(why, AGAIN)
        error.args = (self._sentence(why),)
        error.quiet, error.status = self._known(), self._status()  # type: ignore[attr-defined]

    def _reason(self) -> str:
        record = self.ended or {}
        if record.get("gone"):
            return str(record["text"])
        return f"process {record['rank']} of {self.place.size} on {record['host']} ended: {record['text']}"

    def _status(self) -> int:
        return int(self.ended["status"]) if self.ended else AGAIN

    def _known(self) -> bool:
        """Whether the reason was a person's, and somebody on this host tells it."""
        return self._status() != AGAIN and self.place.local_rank > 0

    def _sentence(self, why: str) -> str:
        stop = "" if why.endswith((".", "!")) else "."
        return f"{self.place} on {platform.node()} ends: {why}{stop} {self.how_to_go_on()}"

    def _end(self, why: str) -> None:
        """End this process from a thread."""
        if not self.speaking.acquire(blocking=False) or self.leaving.is_set():
            return
        self._announce(why, AGAIN)
        with contextlib.suppress(Exception):
            if not self._known():
                print(f"\nsprout: {self._sentence(why)}", file=sys.stderr, flush=True)
            self.last_words(why)
        os._exit(self._status())

    # ---------------------------------------------------------------------------------------- looking after each other

    def _talk(self) -> None:
        """Set the own counter and read the others', every BEAT seconds."""
        place = self.place
        try:
            watched = range(1, place.size) if place.rank == 0 else range(1)
            seen = {r: ("", time.monotonic() + COMES - self.silence) for r in watched}
            count = 0
            while not self.leaving.is_set():
                count += 1
                self.store.set(f"beat/{place.rank}", str(count))
                known = [r for r in watched if seen[r][0] or self.store.check([f"beat/{r}"])]
                values = self.store.multi_get([f"beat/{r}" for r in known]) if known else []
                self.heard = now = time.monotonic()
                for r, value in zip(known, values, strict=True):
                    if value.decode() != seen[r][0]:
                        seen[r] = (value.decode(), now)
                if self.store.check(["ended"]):
                    self._hear(json.loads(self.store.get("ended")))
                    return
                if late := [r for r in watched if now - seen[r][1] > self.silence]:
                    names = f"process {late[0]} of {place.size}" + (f" and {len(late) - 1} more" if late[1:] else "")
                    text = f"{names} gave no sign of life for {self.silence:.0f} s (killed, or its machine or network is gone)"
                    record = {"rank": late[0], "host": "", "text": text, "status": AGAIN, "gone": True}
                    self.store.compare_set("ended", "", json.dumps(record))
                    self._hear(record)
                    return
                self.leaving.wait(BEAT)
        except RuntimeError as error:
            if not self.leaving.is_set():
                text = f"the store at {place.address}:{place.port} can't be reached (the first host's torchrun ended, or its machine or network is gone; {str(error).splitlines()[0][:200]})"
                self._gone(text)

    def _hear(self, record: dict[str, Any]) -> None:
        self.ended_at = time.monotonic()
        self.ended = record

    def _gone(self, text: str) -> None:
        self._hear({"rank": 0, "host": self.place.address, "text": text, "status": AGAIN, "gone": True})

    def _guard(self) -> None:
        """End the process where its main thread can't."""
        told = 0.0  # when the system said that this is to end
        while not self.leaving.is_set():
            ready, _, _ = select.select([self.pipe], [], [], 0.5)
            now = time.monotonic()
            if ready and signal.SIGTERM in self.pipe.recv(64):
                # The cluster wants its machines back; or another process of this host has ended, and torchrun ends all.
                time.sleep(0.5)
                self._look()
                if self.ended is None and not self.speaking.locked():
                    told = told or now
                    signal.raise_signal(signal.SIGINT)  # to the main thread, which saves if everybody is there still
            if told and now - told > SAVES:
                self._end("torchrun or the system ended it (SIGTERM), as when another process is gone")
            if self.ended and now - self.ended_at > 2 * GRACE:
                self._end(self._reason())
            if self.ended is None and now - self.heard > self.silence + BEAT:
                self._gone(f"{self.place.address} gave no answer for {self.silence:.0f} s (its machine or the network is gone)")
