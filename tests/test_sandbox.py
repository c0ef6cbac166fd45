"""The sandbox: what honest code gets, what is limited, where there is none. What hostile code tries is in `test_sandbox_walls.py`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sprout.common.errors import UserError
from sprout.common.messages import ToolCall
from sprout.engine import sandbox
from sprout.engine.sandbox import Outcome, run_python, why_unavailable
from sprout.engine.tools import LONGEST_RESULT, python_tool, run_tool, toolbox_for

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")


def children() -> set[str]:
    """Our child processes, dead ones included."""
    return {x for path in Path("/proc/self/task").glob("*/children") for x in path.read_text().split()}


def outside(code: str) -> str:
    """What the same code does in an interpreter without walls."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout


# ------------------------------------------------------------------------------------------------ honest code


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("", ""), ("1 + 1", "2\n"), ("x = 3", ""), ("None", ""), ("print('a')\n'b'", "a\n'b'\n"),
        ("'ü🦊'", "'ü🦊'\n"),
        ("import sys\nprint('e', file=sys.stderr)\nprint('o')", "e\no\n"), ("__name__", "'__main__'\n"),
        ("open('a', 'w').write('x')\nopen('/tmp/a').read()", "'x'\n"), ("'a' in dir()", "False\n"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nA(1)", "A(x=1)\n"),
        ("import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()", "late\n"),
        ("import os\nos.environ['A'] = 'b'\ndict(os.environ), os.getcwd()", "({'A': 'b'}, '/tmp')\n"),
        ("import asyncio, decimal, hashlib, json, random, re, sqlite3, statistics, zlib\n1", "1\n"),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nf(20)", "2432902008176640000\n"),
        ("'''a\r\nb'''", "'a\\nb'\n"),
    ],
)  # fmt: skip
def test_honest_code_runs_like_a_cell(box: None, code: str, output: str) -> None:
    assert run_python(code, seconds=20) == Outcome(output, True, "")


@pytest.mark.parametrize(
    ("code", "reason", "output"),
    [
        ("def f(x):\n    return 1 / x\nf(0)", "ended with an exception", 'File "/code.py", line 2, in f'),
        ("x = (", "ended with an exception", "SyntaxError: '(' was never closed"),
        ("x = '\0'", "ended with an exception", "null bytes"),
        ("'\ud800'", "ended with an exception", "UnicodeEncodeError"),
        ("import json\njson.loads('[')", "ended with an exception", "JSONDecodeError"),
        ("raise StopIteration(7)", "ended with an exception", "StopIteration: 7"),
        ("raise GeneratorExit", "ended with an exception", "GeneratorExit"),
        ("raise KeyboardInterrupt", "ended with an exception", "KeyboardInterrupt"),
        ("class E(Exception):\n    def __str__(self):\n        1/0\nraise E", "ended with an exception", "E"),
        ("input()", "ended with an exception", "EOFError"),
        ("print(1)\nimport sys\nsys.exit(0)", "left by sys.exit before its end", "1\n"),
        ("raise SystemExit('why')", "left by sys.exit before its end", "why\n"),
        ("exit()", "left by sys.exit before its end", ""),
        ("import os\nos._exit(0)", "left with status 0 before its end", ""),
        ("import os\nos.abort()", "killed by signal 6", ""),
        ("x = bytearray(10**9)", "used more than 256 MB", "MemoryError"),
        ("x = []\nwhile True: x.append(bytearray(10**6))", "used more than 256 MB", "MemoryError"),
        ("while True: print('x')", "wrote more than 4000 bytes", "x\nx\n"),
        ("'x' * 10**7", "wrote more than 4000 bytes", "'xxx"),
    ],
)  # fmt: skip
def test_reasons(box: None, code: str, reason: str, output: str) -> None:
    got = run_python(code, seconds=20)
    assert (got.finished, got.reason) == (False, reason) and output in got.output
    assert len(got.output.encode()) <= 4000
    for path in (sys.base_prefix, str(Path(sandbox.__file__).parent), "sandbox_"):
        assert path == "/usr" or path not in got.output


def test_output_that_is_no_text(box: None) -> None:
    assert run_python("import os\nx = os.write(1, b'a\\xff\\xfeb')").output == "a��b"
    cut = run_python("print('é' * 50)", output=21)
    assert cut == Outcome("é" * 10, False, "wrote more than 21 bytes")
    assert run_python("print(1)", output=0) == Outcome("", False, "wrote more than 0 bytes")
    assert run_python("print('x' * 90)\n1/0", output=100).output.endswith("ZeroDivisionError: division by zero\n")


def test_limits_that_make_no_sense() -> None:
    for wrong in ({"seconds": 0}, {"seconds": float("nan")}, {"memory": 1000}, {"output": -1}):
        with pytest.raises(ValueError, match="no such limits"):
            run_python("1", **wrong)  # type: ignore[arg-type]
    assert "longer than" in run_python("#" * 100_001).reason


# ------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass", "import time\ntime.sleep(60)", "10 ** 10 ** 10",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: signal.pause()",
        "import threading, time\nthreading.Thread(target=lambda: time.sleep(60)).start()",
        "import os\nfor fd in range(64):\n    try: os.close(fd)\n    except OSError: pass\nwhile True: pass",
    ],
)  # fmt: skip
def test_time_is_limited(box: None, code: str) -> None:
    start = time.monotonic()
    got = run_python(code, seconds=0.5)
    assert got == Outcome("", False, "ran longer than 0.5 s")
    assert 0.5 <= time.monotonic() - start < 5


def test_many_threads_share_the_time_and_are_limited(box: None) -> None:
    code = """
import hashlib, threading
def work():
    while True: hashlib.pbkdf2_hmac('sha256', b'', b'', 100_000)
threads = 0
try:
    for _ in range(100):
        threading.Thread(target=work).start()
        threads += 1
except RuntimeError:
    print(threads < 40)
"""
    got = run_python(code, seconds=2, memory=2 << 30)
    assert got.output == "True\n" and got.reason in ("ran longer than 2 s", "computed for more than 2 s")


def test_files_and_descriptors_are_limited(box: None) -> None:
    code = """
import errno, os
def error(f):
    try: f()
    except OSError as e: return errno.errorcode[e.errno]
def one():
    with open('a', 'wb') as file:
        for _ in range(100): file.write(bytes(1 << 20))
def several():
    for i in range(100): open(f'b{i}', 'wb').write(bytes(1 << 20))
def names():
    for i in range(10_000): open(f'c{i}', 'wb').close()
def pipes(): globals()['kept'] = [os.pipe() for _ in range(100)]
print(error(one), error(several))
os.truncate('a', 0)
print(error(names), error(pipes))
"""
    got = run_python(code, seconds=20)
    assert got.finished and got.output.replace("EFBIG", "ENOSPC").split() == ["ENOSPC", "ENOSPC", "ENOSPC", "EMFILE"]


# ------------------------------------------------------------------------------------------------ where there is none


def test_without_namespaces_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(*_: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(sandbox, "_launch", launch)
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    assert "this is darwin" in why_unavailable.__wrapped__()
    with pytest.raises(UserError, match="darwin"):
        run_python("1")


@pytest.fixture
def forbidden(box: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An interpreter that starts in a system which forbids namespaces."""
    program = tmp_path / "python"
    limit = "echo 0 > /proc/sys/user/max_user_namespaces"
    program.write_text(f'#!/bin/sh\nexec unshare -Ur /bin/sh -c \'{limit} && exec {sys.executable} "$@"\' sh "$@"\n')
    program.chmod(0o755)
    with subprocess.Popen([str(program), "-c", "pass"], stderr=subprocess.DEVNULL) as tried:
        if tried.wait() != 0:
            pytest.skip("there is no unshare(1) to make such a system")
    monkeypatch.setattr(sandbox.sys, "executable", str(program))
    yield program


@linux
def test_a_system_that_forbids_it_is_told_from_one_that_allows_it(forbidden: Path) -> None:
    reason = why_unavailable.__wrapped__()
    assert reason.startswith("this system allows no sandbox: new namespaces: ") and "\n" not in reason
    with pytest.raises(UserError, match="allows no sandbox"):
        run_python("1")
    why_unavailable.cache_clear()
    try:
        assert "python" not in toolbox_for(None, python=True)
    finally:
        why_unavailable.cache_clear()


def test_a_strict_umask_does_no_harm(box: None) -> None:
    before = os.umask(0o077)
    try:
        assert run_python("import json\n1").finished
    finally:
        os.umask(before)


# ------------------------------------------------------------------------------------------------ the tool


def test_the_tool(box: None) -> None:
    tools = toolbox_for(None, python=True)
    assert list(tools) == ["calculator", "python"] and list(toolbox_for(None)) == ["calculator"]

    def call(code: object) -> str:
        return run_tool(tools, ("python",), ToolCall.of("python", code=code))  # type: ignore[arg-type]

    assert call("sum(range(10))") == "45"
    assert call("x = 1") == ""
    assert call("print(1)\nimport sys\nsys.exit()") == "1\nError: left by sys.exit before its end"
    assert call("import os\nos._exit(3)") == "Error: left with status 3 before its end"
    assert call(3) == "Error: the argument code is not a string"
    long = call("print('a' * 1000)\n1/0")
    assert long.startswith("aaa") and long.endswith("by zero\nError: ended with an exception")
    assert len(long) <= LONGEST_RESULT
    assert python_tool().run("'\ud800'").endswith("Error: ended with an exception")
