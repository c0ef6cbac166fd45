"""Who is written when: requests wait, join the running batch, leave it when they end, at any step."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from sprout.engine.batch import Batch
from sprout.engine.decoder import Decoder
from sprout.engine.rows import Request, completion
from sprout.engine.tools import run_tool
from sprout.engine.types import Busy, Event, Toolbox
from sprout.engine.writer import Writer
from sprout.tokenizer import Tokenizer

SLOW_TOOLS = 4  # that work at the same time
REST = 0.02  # seconds to wait for a slow tool when nothing else is to be done


class Scheduler:
    """Writes any number of replies, at most `rows` at the same time. One thread owns it.

    `waiting` requests may wait for a row, or for a slow tool, beyond those (None: any number). `blocks` is the size of the
    prefix store in blocks of 16 tokens; 0 keeps nothing. `eager` begins every reply as soon as it can, at the cost of some
    speed of them all.
    """

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, toolbox: Toolbox, rows: int, waiting: int | None = None,
        blocks: int = 0, eager: bool = True,
    ) -> None:  # fmt: skip
        self.batch = Batch(decoder, tokenizer, toolbox, rows, blocks, eager)
        self.rows, self.most_waiting, self.eager = rows, waiting, eager
        self.waiting: deque[Request] = deque()
        self.away: dict[Future[str], Request] = {}
        self.pool: ThreadPoolExecutor | None = None
        self.numbers = 0

    def __len__(self) -> int:
        return len(self.batch) + len(self.waiting) + len(self.away)

    @property
    def running(self) -> int:
        """Replies that are being written, or wait for a slow tool."""
        return len(self.batch) + len(self.away)

    @property
    def queued(self) -> int:
        """Requests that wait for a row."""
        return len(self.waiting)

    def submit(self, request: Request, stream: bool = False) -> int:
        """Take a request in; the number by which its events are known. With `stream` there are events while it is
        written, else only the last one. Raises Busy if too many wait."""
        if self.most_waiting is not None and len(self) >= self.rows + self.most_waiting:
            raise Busy(f"{self.running} replies are being written and {self.queued} wait; try again later.")
        self.numbers += 1
        request.number = self.numbers
        if stream or request.sampling.stop:
            request.writer = Writer(self.batch.tokenizer, request.number, request.sampling.stop, stream)
        self.waiting.append(request)
        return request.number

    def cancel(self, number: int) -> bool:
        """Drop a request, wherever it is; its row is free from now on. Whether it was there."""
        if self.batch.cancel(number):
            return True
        for request in self.waiting:
            if request.number == number:
                self.waiting.remove(request)
                return True
        for future, request in self.away.items():
            if request.number == number:
                future.cancel()
                del self.away[future]
                return True
        return False

    def step(self) -> list[Event]:
        """A token more for every reply that is being written; what is to be told of them."""
        events = self._come_back()
        free = min(self.rows - len(self.batch), len(self.waiting))
        # Prompts are read several at a time where nobody waits for the first word.
        if free and (self.eager or free >= self.rows // 8 or free == len(self.waiting)):
            self.batch.add([self.waiting.popleft() for _ in range(free)])
        if not len(self.batch):
            if self.away:
                wait(self.away, REST, FIRST_COMPLETED)
            return events
        ended = self.batch.step()
        for request in self.batch.requests:
            if request.writer:
                events += request.writer.drain()
        for request, reply in ended:
            if request.writer:
                events += request.writer.drain()
            if reply is None:
                self._send_away(request)
            else:
                events.append(Event("done", completion=reply, number=request.number))
        return events

    def close(self) -> None:
        """Let go of slow tools; those that work end by their own limits."""
        if self.pool:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _send_away(self, request: Request) -> None:
        if self.pool is None:
            self.pool = ThreadPoolExecutor(SLOW_TOOLS, "sprout-tool")
        call = request.messages[-1].call
        self.away[self.pool.submit(run_tool, self.batch.toolbox, request.prompt.tools, call)] = request

    def _come_back(self) -> list[Event]:
        """Place the results that are there; those replies go on before any new one begins."""
        events: list[Event] = []
        for future in [f for f in self.away if f.done()]:
            request = self.away.pop(future)
            assert request.away is not None
            finish = self.batch.place(request.away, request, future.result())
            if finish:
                events.append(Event("done", completion=completion(request.away, request, finish), number=request.number))
            else:
                self.waiting.appendleft(request)
        return events
