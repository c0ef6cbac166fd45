"""`sprout grow --serve`: the page beside a run, as a process of its own, so that nothing it does can stop the growing.

The page is `sprout serve --model RUN --port PORT --watch --until-stdin-closes`. `--watch`: there may be no model yet.
`--until-stdin-closes`: its standard input is a pipe whose other end only this process has; at its end of file it ends
too. So the page never outlives the growing, however that ended (SIGKILL included), on every system.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from sprout.common.errors import UserError
from sprout.common.processes import without_place

HOST = "127.0.0.1"
COMES_UP = 20.0  # seconds until the page has to answer
GOES = 3.0  # seconds it has to end itself, and again after SIGTERM


def serve_command(run: Path, port: int) -> list[str]:
    """What shows a run that grows."""
    return [sys.executable, "-m", "sprout", "serve", "--model", str(run), "--port", str(port), "--watch", "--until-stdin-closes"]


def check_port(port: int) -> None:
    """That a page could listen there. Raises UserError, before any work."""
    if not 0 < port < 65536:
        raise UserError(f"port is {port}; expected 1 to 65535.")
    with socket.socket() as probe:
        if sys.platform != "win32":  # there it would let two listen on one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} can't be had ({error.strerror or error}); give another --port.") from error


class Page:
    """The page's process, from `with` to its end. Whatever happens to it is said; nothing is raised."""

    def __init__(self, run: Path, port: int, say: Callable[[str], None], command: Sequence[str] = ()) -> None:
        """`command` is `serve_command(run, port)` unless given."""
        self.port, self.say = port, say
        self.command = list(command) or serve_command(run, port)
        self.log = run / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.ending = False

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Page:
        self.say(f"the page that shows it comes up at {self.address}")
        try:
            with self.log.open("wb") as log:
                # In a session of its own a Ctrl-C meant for the growing does not reach it; we end it afterwards.
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=without_place()
                )
        except OSError as error:
            self.say(f"note: the page can't be started ({error}); the growing goes on without")
            return self
        threading.Thread(target=self._look_after, args=(self.process,), daemon=True).start()
        return self

    def _look_after(self, process: subprocess.Popen[bytes]) -> None:
        """Say that the page is up, or why it isn't."""
        until = time.monotonic() + COMES_UP
        while process.poll() is None and not self._healthy():
            if time.monotonic() > until:
                if not self.ending:
                    self.say(f"note: the page does not answer after {COMES_UP:.0f} s (see {self.log}); the growing goes on")
                break
            time.sleep(0.2)
        else:
            if process.poll() is None and not self.ending:
                self.say(f"the page is up: {self.address}")
        status = process.wait()
        if not self.ending:
            self.say(f"note: the page ended with status {status} ({self._last_words()}); the growing goes on without")

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return f"nothing in {self.log}"

    def stay(self) -> None:
        """Go on until Ctrl-C, or until the page ends by itself."""
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(KeyboardInterrupt):
            self.say(f"The page goes on at {self.address}; Ctrl-C ends it")
            self.process.wait()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ending = True
        if self.process is None:
            return
        try:
            if self.process.stdin:
                with contextlib.suppress(OSError):
                    self.process.stdin.close()
            for harder in (self.process.terminate, self.process.kill):
                try:
                    self.process.wait(GOES)
                    return
                except subprocess.TimeoutExpired:
                    harder()
        finally:  # a second Ctrl-C does not wait
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
