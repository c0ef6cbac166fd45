"""Runs Python that a language model wrote. That is hostile code, so it runs behind the kernel's walls or not at all.

run_python  ->  sandbox_launcher.py  ->  sandbox_worker.py
here            a fresh process: goes   the code, in an
                into new namespaces,    interpreter started
                sets limits, watches    inside the walls

What the code gets: Python's standard library and the system's libraries, read only; an empty /tmp of 16 MB in memory;
one process, with threads.
What it doesn't get: the network or any socket but local ones, any other file, our environment, sight of a process that
is not its own, rights of any kind. When it ends, at a limit, or when our caller is interrupted or killed, the kernel
ends everything that it started; files and mounts end with it.

The limits are exact for time, output, threads and the size of files. Memory is the address space, to which at most the
16 MB of /tmp and what 64 descriptors buffer are added.

What `finished` is worth. The end of the code is told by a secret that the code's process holds only where no Python
object leads: not in a frame, not for the garbage collector, nor in a descriptor or file. So leaving early, writing to
every descriptor, and walking through all objects don't forge it. It does not say that the statements meant what they
seem to: code may change functions that later statements call, or jump over its own statements with sys.settrace. And
whoever can read the process's raw memory can read the secret: ctypes is therefore hidden, but it can't be where it is
built into the interpreter, and an error in CPython may be as good. Whoever appends checks to hostile code must not
trust that they ran as written; what the code printed is to be checked here, outside.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from codecs import getincrementaldecoder
from dataclasses import dataclass
from pathlib import Path

from sprout.common.errors import UserError

LONGEST_CODE = 100_000  # characters
LEAST_MEMORY = 64 << 20  # bytes: the interpreter itself takes about 30 MB of address space
PATIENCE = 30.0  # seconds for everything but the code's own time, on a machine that is very busy
HIDDEN = ("_ctypes", "_test", "_xx", "_remote_debugging")  # prefixes of extension modules that read raw memory
FILTERED = True  # whether dangerous system calls are refused; the walls have to hold without that as well


@dataclass(frozen=True, slots=True)
class Outcome:
    """`output`: what was printed and, after an exception, the end of its traceback. `finished`: whether the code ran to
    its end. `reason`: why it did not, for people; empty if it did. Only `finished` is beyond the code's reach: the rest
    is news from a stranger."""

    output: str
    finished: bool
    reason: str


def run_python(code: str, seconds: float = 5.0, memory: int = 256 << 20, output: int = 4000) -> Outcome:
    """Runs code as a notebook's cell, the value of its last expression printed: at most `seconds` by the clock (and of
    computing, rounded up), `memory` bytes of address space, `output` bytes printed, counted as UTF-8.

    Whatever the code does is an outcome. Raises ValueError for limits that can't work, UserError where there is no
    sandbox; then nothing was run.
    """
    if not 0 < seconds < 1e6 or memory < LEAST_MEMORY or output < 0:
        raise ValueError(f"no such limits: {seconds} s, {memory} bytes (at least {LEAST_MEMORY}), {output} printed")
    if len(code) > LONGEST_CODE:
        return Outcome("", False, f"the code is longer than {LONGEST_CODE} characters")
    if not sys.platform.startswith("linux"):
        raise UserError(f"running code needs Linux's namespaces, and this is {sys.platform}")
    finished, reason, printed = _launch(code, seconds, memory, output)
    # A character that the limit cut in two is dropped; other bytes that are no UTF-8 are shown as such.
    text = getincrementaldecoder("utf-8")("replace").decode(printed, final=len(printed) < output)
    return Outcome(text, finished == b"1", reason.decode("utf-8", "replace"))


@functools.cache
def why_unavailable() -> str:
    """Why code can't be run here, in one line for people; empty if it can. Tried once, really."""
    try:
        outcome = run_python("1 + 1", seconds=PATIENCE)
    except UserError as error:
        return str(error)
    return "" if outcome == Outcome("2\n", True, "") else f"the sandbox doesn't work here: {outcome.reason}"


def _launch(code: str, seconds: float, memory: int, output: int) -> tuple[bytes, bytes, bytes]:
    """Finished, reason, output, as the launcher says them. The launcher watches its standard output: whoever closes it
    ends the run."""
    here = Path(__file__)
    launcher, worker = (here.with_name(f"sandbox_{name}.py").read_text("utf-8") for name in ("launcher", "worker"))
    limits = [str(seconds), str(memory), str(output), ",".join(HIDDEN), str(int(FILTERED))]
    # A fresh interpreter, because a fork of a process with many threads may inherit locks that nobody will open.
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", launcher, worker, *limits],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
            env={k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"},  # some interpreters need it to start
            start_new_session=True,  # away from the terminal and its Ctrl-C, which is for us to handle
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"the sandbox can't be started: {error}") from error
    try:
        answer, errors = process.communicate(code.encode("utf-8", "surrogatepass"), timeout=seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(f"the sandbox did not answer within {PATIENCE:g} s more than the code had") from None
    finally:
        _end(process)
    if process.returncode:
        said = errors.decode("utf-8", "replace").strip().splitlines() or [f"status {process.returncode}"]
        raise UserError(f"this system allows no sandbox: {said[-1]}")
    finished, reason, printed = answer.split(b"\n", 2)
    return finished, reason, printed


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a launcher that still runs, and with it all that it started."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also after a second Ctrl-C: with the launcher the kernel ends the rest
        process.kill()
        process.wait()
