"""The inside of the sandbox: this text is started by sandbox_launcher.py, behind the walls, and runs the code.

It imports little, for speed, and nothing of ours, which isn't there.
"""

from __future__ import annotations

import builtins
import os
import sys
from _ast import Expr, Expression, Module, PyCF_ONLY_AST
from collections import deque
from collections.abc import Iterator
from types import ModuleType

PLACE = "/code.py"
READY = b"R"  # the first byte of a report; then comes the secret, or else why and the traceback
LONGEST_TRACE = 1500  # characters, of its end
SECRET = 32  # bytes


def main() -> None:
    """Arguments: the descriptors of the report, to be written, and of the secret, to be read."""
    report, secret = int(sys.argv[1]), int(sys.argv[2])
    with open(PLACE, encoding="utf-8", errors="surrogatepass", newline="") as file:
        code = file.read()
    os.environ.clear()
    sys.argv[:], sys.path[0:0] = [PLACE], ["/tmp"]
    setattr(builtins, "exit", sys.exit)  # noqa: B010 - as they are in a normal interpreter, where `site` sets them
    setattr(builtins, "quit", sys.exit)  # noqa: B010
    os.write(report, READY)
    try:
        # The secret is read, kept while the code runs, and written by three functions in C that hand it to each other:
        # it is only ever in their variables. `bytes.join` has to have all parts before it joins them, and the code is
        # what makes the parts.
        read = map(os.read, (secret,), (SECRET,))
        deque(map(os.write, (report,), map(bytes.join, read, (_run(code, secret),))), maxlen=0)
    except BaseException as error:
        os.write(report, _explain(error).encode("utf-8", "backslashreplace"))
        os._exit(1)
    os._exit(0)


def _run(code: str, secret: int) -> Iterator[bytes]:
    """Runs the code and yields two empty parts: the secret stands between them. There must be no `except` here: a
    tracing function can jump from its lines to the `yield`."""
    os.close(secret)
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    tree = compile(code, PLACE, "exec", PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, Module)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, Expr):
        tree.body.pop()
    exec(compile(tree, PLACE, "exec", dont_inherit=True), module.__dict__)
    if isinstance(last, Expr):
        value = eval(compile(Expression(last.value), PLACE, "eval", dont_inherit=True), module.__dict__)
        if value is not None:
            print(repr(value))
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()  # what an interpreter does at its end: waits for threads
    sys.stdout.flush()
    sys.stderr.flush()
    yield b""
    yield b""


def _explain(error: BaseException) -> str:
    """A letter for the kind of end, and what Python would have printed about it."""
    if type(error) is RuntimeError and isinstance(error.__cause__, StopIteration):
        error = error.__cause__  # the generator above wrapped it
    kind = "X" if isinstance(error, SystemExit) else "M" if isinstance(error, MemoryError) else "E"
    try:
        if isinstance(error, SystemExit):
            text = "" if error.code is None or isinstance(error.code, int) else f"{error.code}\n"
            return kind + text[:LONGEST_TRACE]
        import traceback

        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != PLACE:
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(error), error, trace, limit=-6))
    except BaseException:  # no memory left, or a hostile exception
        text = f"{type(error).__name__}\n"
    return kind + text[-LONGEST_TRACE:]


if __name__ == "__main__":
    main()
