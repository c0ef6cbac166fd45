"""What `finished` is worth: code that leaves early and wants to look as if it had come to its end."""

from __future__ import annotations

import sys

import pytest

from sprout.engine.sandbox import run_python
from tests.test_sandbox import outside

pytestmark = pytest.mark.slow


WALK = """
import gc, os, sys
def walk():
    seen, todo, frame = set(), gc.get_objects(), sys._getframe()
    while frame:
        todo += [frame, *frame.f_locals.values()]
        frame = frame.f_back
    while todo:
        x = todo.pop()
        if id(x) not in seen and x is not seen and x is not todo:
            seen.add(id(x))
            if type(x) in (bytes, bytearray) and len(x) == 32: yield bytes(x)
            todo += gc.get_referents(x)
"""
EVERYWHERE = """
def everywhere(data):
    for fd in range(64):
        try: os.write(fd, data)
        except OSError: pass
"""
GENERATOR = """
import gc, os, sys
frame = sys._getframe(1)
(gen,) = [x for x in gc.get_objects() if type(x).__name__ == 'generator' and x.gi_frame is frame]
"""
JUMP = """
import sys
outer = sys._getframe(1)
first_yield = sorted({line for _, _, line in outer.f_code.co_lines() if line})[-2]
def tracer(frame, event, argument):
    if frame is outer:
        try: frame.f_lineno = first_yield
        except ValueError: return tracer
        frame.f_trace = sys.settrace(None)
    return tracer
outer.f_trace = tracer
sys.settrace(tracer)
raise SystemExit
"""
FORGERIES = {
    "a word on every channel": f"import os{EVERYWHERE}everywhere(b'R' + b'1' * 32)\nos._exit(0)",
    "whatever can be read": f"""
import os{EVERYWHERE}
for fd in range(64):
    try:
        os.set_blocking(fd, False)
        everywhere(os.read(fd, 99))
    except OSError: pass
os._exit(0)""",
    "every object": f"{WALK}{EVERYWHERE}for x in walk(): everywhere(x)\nos._exit(0)",
    "the object most like it": f"""{WALK}{EVERYWHERE}
everywhere(max(walk(), key=lambda x: len(set(x)), default=b''))
os._exit(0)""",
    "no channels": "import os\nos.closerange(0, 64)\nos._exit(0)",
    "an exit at the end": "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit(0)",
    "another interpreter": "import os\nos.execv('/python/bin/python', ['python', '-I', '-S', '-c', 'print(1)'])",
    "closing the generator": GENERATOR + "try: gen.close()\nexcept ValueError: pass\nos._exit(0)",
    "parts from elsewhere": """
import gc
for x in gc.get_objects():
    if type(x) is list and not x: x += [b'', b'']
raise SystemExit""",
    "going on with the maps": """
import gc, os
for x in gc.get_objects():
    if type(x) is map:
        try: print(list(x))
        except Exception: pass
os._exit(0)""",
    "other functions": """
import builtins, os
os.write = os._exit = lambda *a: 0
builtins.BaseException = int
raise SystemExit""",
    "jumping over the end": JUMP,
    "an exception that leaves": """
class E(BaseException):
    def __str__(self):
        import os
        os._exit(0)
raise E""",
    "a thread that ends it": "import os, threading\nthreading.Thread(target=os._exit, args=[0]).start()\nwhile 1: 0",
    "a signal that ends it": """
import os, signal
signal.signal(signal.SIGALRM, lambda *a: os._exit(0))
signal.setitimer(0, 0.1)
while True: pass""",
    "the last value": "class A:\n    def __repr__(self): raise SystemExit(0)\nA()",
}  # fmt: skip


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES.keys())
def test_the_end_cannot_be_forged(box: None, code: str) -> None:
    got = run_python(code, seconds=10)
    assert not got.finished and got.reason


def test_the_walk_finds_what_objects_hold(box: None) -> None:
    """So the walk above would have found the secret."""
    planted = "class A: pass\na = A()\na.x = [{'k': (lambda y: lambda: y)(bytes(range(32)))}]\n"
    assert run_python(f"{WALK}{planted}bytes(range(32)) in set(walk())", seconds=20).output == "True\n"


def test_the_jump_works_where_there_is_a_line_to_jump_from() -> None:
    """So a worker whose generator caught exceptions would be fooled by the jump above."""
    code = f"""
def run():
    try:
        exec({JUMP!r}, {{}})
    except BaseException:
        raise
    print('before')
    yield b''
    yield b''
print(b'secret'.join(run()))
"""
    assert outside(code) == "b'secret'\n"


def test_memory_is_not_to_be_read(box: None) -> None:
    code = """
import sys
sys.path += ['/usr/lib/python3.%d/lib-dynload' % i for i in range(30)]
import ctypes
"""
    if "_ctypes" in sys.builtin_module_names:
        pytest.skip("ctypes is built into this interpreter")
    assert "No module named '_ctypes'" in run_python(code).output
