"""The server itself: the socket, the signals, and an end that finishes what has begun."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
import uvicorn

from sprout.common.compute import usable_cores
from sprout.common.errors import UserError
from sprout.engine.sandbox import why_unavailable
from sprout.serve.app import Service, Settings
from sprout.serve.errors import draining
from sprout.serve.limits import check_key, is_loopback

log = logging.getLogger("sprout.serve")
NEWS = 1.0  # seconds that are left for telling those whose replies the end cuts off
SEND_BUFFER = (
    1 << 17
)  # bytes that the system keeps for a reader; what it doesn't take waits in the reply's own, bounded, queue
STALLED = 60_000  # milliseconds after which a connection whose other end takes nothing is closed
BACKLOG = 2048  # connections that wait to be taken in
GRACE = 20.0  # seconds
SLOWEST_HEAD = 30.0  # seconds that a connection may be without a whole head of a request


class Server(uvicorn.Server):
    """Uvicorn, with draining in front of its end: the socket stays open and tells those who come that the server is
    shutting down, what runs is finished within `grace` seconds. A second signal ends it at once."""

    def __init__(self, service: Service, grace: float = GRACE) -> None:
        config = uvicorn.Config(
            service.app, lifespan="off", ws="none", proxy_headers=False, server_header=False, log_config=log_config(),
            timeout_graceful_shutdown=3, timeout_keep_alive=20,
        )  # fmt: skip
        super().__init__(config)
        self.service, self.grace = service, grace
        self._ends: float | None = None  # when the grace is over, time.monotonic
        self._cut = False
        self._silent: dict[tuple[Any, Any], float] = {}  # connection and its last request -> since when, time.monotonic

    def drain(self) -> None:
        """Begin the end. Any thread, or a signal's handler, may do this; the second time it ends at once."""
        if self.service.app.draining:
            self.should_exit = self.force_exit = True
        self.service.app.draining = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.drain()  # the signal is not noted, so uvicorn doesn't raise it again: the process ends with status 0

    def _close_silent(self) -> None:
        """Close the connections on which no head of a request comes, or half a one; uvicorn waits for these for ever."""
        now = time.monotonic()
        answered = [(c, c.cycle) for c in self.server_state.connections if not c.cycle or c.cycle.response_complete]  # type: ignore[union-attr]
        self._silent = {key: self._silent.get(key, now) for key in answered}
        for (connection, _), since in self._silent.items():
            if now - since > SLOWEST_HEAD:
                connection.transport.close()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._close_silent()
        if self.service.app.draining and not self.should_exit:
            now = time.monotonic()
            if self._ends is None:
                self._ends = now + self.grace
                log.info("draining: %d replies are being finished", self.service.app.working)
            if not self.service.app.working or now > self._ends + NEWS:
                self.should_exit = True
            elif now > self._ends and not self._cut:
                self._cut = True
                log.warning("%d replies are cut off", self.service.app.working)
                self.service.runner.fail_all(draining("the server has shut down before the reply was finished"))
        return await super().on_tick(counter)


class NoQuery(logging.Filter):
    """Cuts what follows a '?' in the log: somebody may put a key there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and len(record.args) == 5:
            client, method, path, version, status = record.args
            record.args = (client, method, str(path).partition("?")[0][:200], version, status)
        return True


def log_config() -> dict[str, Any]:
    """Everything to the standard error: client, method, path and status of each request, and what went wrong."""
    handler = {
        "class": "logging.StreamHandler",
        "formatter": "plain",
        "stream": "ext://sys.stderr",
        "filters": ["no_query"],
    }
    loggers = {
        n: {"handlers": ["log"], "level": "INFO", "propagate": False}
        for n in ("uvicorn.error", "uvicorn.access", "sprout.serve")
    }
    return {
        "version": 1, "disable_existing_loggers": False, "handlers": {"log": handler}, "loggers": loggers,
        "filters": {"no_query": {"()": NoQuery}},
        "formatters": {"plain": {"format": "%(asctime)s %(message)s", "datefmt": "%H:%M:%S"}},
    }  # fmt: skip


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises UserError."""
    if not 0 <= port < 65536:
        raise UserError(f"port is {port}; expected 0 (any free one) to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"can't listen at {host}, port {port}: {why}. Another server may be running there; give --port (0 takes any free one)."
        ) from error


def address_of(sock: socket.socket) -> str:
    """Where a browser finds the server."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # no address that a browser can open
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_access(host: str, api_key: str | None, open_: bool) -> None:
    """Raise UserError for a server that anybody in the network could use without anybody having wanted that."""
    if api_key is not None:
        check_key(api_key)
    elif not is_loopback(host) and not open_:
        raise UserError(
            f"--host {host} lets others in the network use the server. Give --api-key KEY (or SPROUT_API_KEY in the "
            "environment), or --open if everybody may."
        )


def watch_stdin(server: Server) -> None:
    """End the server when its standard input is closed: whoever started it has gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        server.drain()

    threading.Thread(target=wait, name="sprout-stdin", daemon=True).start()


@contextlib.contextmanager
def running(service: Service) -> Iterator[None]:
    """A service between its start and its end."""
    service.start()
    try:
        yield
    finally:
        service.close()


def serve(settings: Settings, host: str, port: int, grace: float = GRACE, until_stdin_closes: bool = False) -> int:
    """Serve until a signal comes. Raises UserError where there is no model or the port is in use."""
    service = Service(settings)
    threads = max(1, usable_cores() - 1)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    sock = bind(host, port)
    server = Server(service, grace)
    # A signal that comes before uvicorn listens to them.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    print(f"{threads} thread{'s' if threads > 1 else ''} for the model: one core is left to the server itself")
    names = ", ".join(place.id for place in service.shelf.places()) or "none yet"
    print(f"models: {names}")
    if settings.python and (why := why_unavailable()):
        print(f"no Python tool: {why}")
    if until_stdin_closes:
        watch_stdin(server)
    with running(service):
        print(f"serving at {address_of(sock)}  (Ctrl-C ends it)")
        sys.stdout.flush()
        server.run(sockets=[sock])
    return 0
