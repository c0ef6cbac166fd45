"""Readers that may go away: a stream of server-sent events, and waiting that ends when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sprout.serve.errors import ApiError, api_error
from sprout.serve.replies import line

PATIENCE = 10.0  # seconds that a stalled reader of a cancelled reply has to take the news
T = TypeVar("T")


class Gone(Exception):
    """The client has closed the connection."""


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; it is cancelled, and Gone raised, if the client goes first."""
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        await put_away(task, watch)


async def put_away(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs, and wait for its end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class EventStream(Response):
    """Server-sent events. `lines` gives them; an error on the way becomes the last event. `closed` is called at the end,
    whatever the end is. If `lagging` is called, a reader that takes nothing for PATIENCE seconds is cut off."""

    media_type = "text/event-stream"

    def __init__(self, lines: AsyncIterator[bytes], closed: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.lines, self.closed = lines, closed
        self._pump: asyncio.Future[None] | None = None

    def lagging(self) -> None:
        """The reader is too slow; in the event loop."""
        if self._pump:
            asyncio.get_running_loop().call_later(PATIENCE, self._pump.cancel)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._pump, watch = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait({self._pump, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.closed()
            await put_away(self._pump, watch)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for piece in self.lines:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Exception as error:
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": error_event(api_error(error)), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def error_event(error: ApiError) -> bytes:
    """An error as the last event of a stream that has begun."""
    return line(error.body())
