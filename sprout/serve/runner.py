"""The thread that owns the schedulers: it gives every running reply of every model a token, in turn, and brings the
pieces to whoever waits for them in the event loop.

To the thread go messages in a queue (new work, cancelled work); it reads them between two steps, so a reply whose reader
has gone costs one step at most. From the thread goes one call into the event loop a step, with all pieces of the step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from sprout.common.errors import UserError
from sprout.engine import Busy, Event, Scheduler
from sprout.engine.prefixes import PrefixStore
from sprout.engine.rows import Request
from sprout.serve.errors import ApiError, api_error, busy
from sprout.serve.metrics import Metrics
from sprout.serve.models import Loaded

log = logging.getLogger("sprout.serve")
LAG = 512  # pieces of each choice that a reader may be behind before its reply is cancelled
PREFIX_BYTES = 64 << 20  # memory of each model's prefix store
RATE_EVERY = 1.0  # seconds over which tokens a second are measured

Piece = tuple[int, Event, float]  # which choice, what, and when (seconds of time.perf_counter)


class Reply:
    """All choices of one HTTP request. The event loop owns it; the thread only passes pieces to `put`."""

    def __init__(self, requests: Sequence[Request], stream: bool, lag: int, drop: Callable[[Reply], None]) -> None:
        self.requests, self.stream, self.drop = requests, stream, drop
        self.lag = lag * len(requests)
        self.loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = self.loop.create_future()
        self.begun = time.perf_counter()
        self.left = len(requests)  # choices that aren't done
        self.lagged: Callable[[], None] = lambda: None  # called when the reader fell too far behind
        self._pieces: deque[Piece] = deque()
        self._more = asyncio.Event()
        self._error: ApiError | None = None

    def accept(self) -> None:
        """The scheduler has it."""
        if not self.accepted.done():
            self.accepted.set_result(None)

    def put(self, pieces: Sequence[Piece]) -> None:
        """More of the reply. A reader that is too far behind gets an error instead, and nothing piles up."""
        if self._error:
            return
        self._pieces.extend(pieces)
        self.left -= sum(event.kind == "done" for _, event, _ in pieces)
        if self.stream and len(self._pieces) > self.lag:
            message = f"the reader is more than {self.lag} pieces behind; the reply was cancelled"
            self.fail(ApiError(429, message, "slow_reader"))
            self.drop(self)
            self.lagged()
        self._more.set()

    def fail(self, error: ApiError) -> None:
        """The end, once what is there already has been read."""
        if self.accepted.done():
            self._error = self._error or error
            self._more.set()
        else:
            self.accepted.set_exception(error)

    async def pieces(self) -> AsyncIterator[list[Piece]]:
        """All pieces that there are, whenever there are some, until every choice is done. Raises ApiError."""
        while self.left or self._pieces:
            while not self._pieces:
                if self._error:
                    raise self._error
                self._more.clear()
                await self._more.wait()
            found = list(self._pieces)
            self._pieces.clear()
            yield found
        if self._error:
            raise self._error


@dataclass(slots=True)
class Lane:
    """A model that runs, and whose the replies are: number -> reply and which of its choices."""

    loaded: Loaded
    scheduler: Scheduler
    owners: dict[int, tuple[Reply, int]] = field(default_factory=dict)


class Runner:
    """Owns a scheduler for every model in use. `rows` replies of each are written at once and `waiting` wait."""

    def __init__(self, metrics: Metrics, rows: int = 64, waiting: int = 256, lag: int = LAG) -> None:
        self.metrics, self.rows, self.waiting, self.lag = metrics, rows, waiting, lag
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lanes: dict[int, Lane] = {}
        self._thread = threading.Thread(target=self._run, name="sprout-runner", daemon=True)
        self._made, self._since = 0, time.perf_counter()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread; replies that are unfinished then are not told."""
        self._inbox.put(None)
        self._thread.join(10)

    async def submit(self, loaded: Loaded, requests: Sequence[Request], stream: bool) -> Reply:
        """Take in all of the requests or, if too much waits, none. Raises ApiError. Whoever gets the reply has to
        `drop` it at the end, read or not."""
        reply = Reply(requests, stream, self.lag, self.drop)
        self._inbox.put(lambda: self._submit(loaded, reply))
        try:
            await reply.accepted
        except asyncio.CancelledError:
            self.drop(reply)
            raise
        return reply

    def drop(self, reply: Reply) -> None:
        """Nobody reads the reply any more: what isn't done of it is cancelled. Any number of times, from any thread."""
        if reply.left:
            self._inbox.put(lambda: self._drop(reply))

    def fail_all(self, error: ApiError) -> None:
        """Cancel everything; every reader is told."""
        self._inbox.put(lambda: self._fail_all(error))

    # What follows runs in the thread.

    def _run(self) -> None:
        while True:
            try:
                while True:
                    message = self._inbox.get(block=not any(len(lane.scheduler) for lane in self._lanes.values()))
                    if message is None:
                        return
                    message()
                    self._count()
            except queue.Empty:
                pass
            except Exception:
                log.exception("a message to the runner failed")
            for lane in list(self._lanes.values()):
                if len(lane.scheduler):
                    self._step(lane)
                if lane.loaded.retired and not len(lane.scheduler):
                    lane.scheduler.close()
                    self._lanes.pop(id(lane.loaded), None)
            self._count()

    def _lane(self, loaded: Loaded) -> Lane:
        lane = self._lanes.get(id(loaded))
        if lane is None:
            model = loaded.engine.model
            blocks = max(16, PREFIX_BYTES // PrefixStore.bytes(model.config, model.embed.device))
            lane = Lane(loaded, loaded.engine.scheduler(self.rows, self.waiting, blocks))
            self._lanes[id(loaded)] = lane
        return lane

    def _submit(self, loaded: Loaded, reply: Reply) -> None:
        if reply.accepted.cancelled():
            return
        numbers: list[int] = []
        try:
            lane = self._lane(loaded)
            for i, request in enumerate(reply.requests):
                numbers.append(lane.scheduler.submit(request, reply.stream))
                lane.owners[numbers[-1]] = reply, i
        except Exception as error:
            for number in numbers:
                lane.scheduler.cancel(number)
                del lane.owners[number]
            found = busy(str(error)) if isinstance(error, Busy) else api_error(error)
            self._tell(reply, lambda: reply.fail(found))
            return
        self._tell(reply, reply.accept)

    def _drop(self, reply: Reply) -> None:
        for lane in self._lanes.values():
            for number in [n for n, (owner, _) in lane.owners.items() if owner is reply]:
                del lane.owners[number]
                if lane.scheduler.cancel(number):
                    self.metrics.cancelled.inc()

    def _step(self, lane: Lane) -> None:
        running = lane.scheduler.running
        try:
            events = lane.scheduler.step()
        except Exception as error:
            if not isinstance(error, UserError):
                log.exception("a step failed")
            message = str(error) if isinstance(error, UserError) else "the model failed; the server's log says more"
            self._fail(lane, ApiError(500, message, "model_failed"))
            return
        now = time.perf_counter()
        self._made += running
        told: dict[Reply, list[Piece]] = {}
        for event in events:
            owner = lane.owners.get(event.number)
            if owner is None:
                continue
            reply, choice = owner
            told.setdefault(reply, []).append((choice, event, now))
            if event.completion is not None:
                del lane.owners[event.number]
                self.metrics.finished(event.completion)
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Reply, list[Piece]]]] = {}
        for reply, pieces in told.items():
            by_loop.setdefault(reply.loop, []).append((reply, pieces))
        for loop, mine in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                loop.call_soon_threadsafe(deliver, mine)

    def _fail(self, lane: Lane, error: ApiError) -> None:
        """Tell all who run on a lane, and make it anew when it is next needed."""
        replies = list(dict.fromkeys(reply for reply, _ in lane.owners.values()))
        lane.scheduler.close()
        self._lanes.pop(id(lane.loaded), None)
        for reply in replies:
            self._tell(reply, lambda reply=reply: reply.fail(error))  # type: ignore[misc]

    def _fail_all(self, error: ApiError) -> None:
        for lane in list(self._lanes.values()):
            self._fail(lane, error)

    def _tell(self, reply: Reply, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):
            reply.loop.call_soon_threadsafe(what)

    def _count(self) -> None:
        lanes = self._lanes.values()
        running = sum(lane.scheduler.running for lane in lanes)
        self.metrics.running.set(running)
        self.metrics.queued.set(sum(lane.scheduler.queued for lane in lanes))
        now = time.perf_counter()
        if now - self._since >= RATE_EVERY or not running:
            if self._made:
                self.metrics.rate.set(self._made / max(now - self._since, 1e-6))
            self._made, self._since = 0, now


def deliver(pieces: Sequence[tuple[Reply, list[Piece]]]) -> None:
    """In the event loop: a step's pieces to their readers."""
    for reply, mine in pieces:
        reply.put(mine)
