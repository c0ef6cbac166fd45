"""The process of a job. It reads lines of JSON and answers each with one: first the job's name, `module:generator`, with its
arguments, which the generator's first value answers; then requests, which it is sent. Nothing but answers goes to the
standard output, whatever peers print."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sprout.bench.parts import Absent


def named(name: str) -> Callable[..., Any]:
    """The function `module:function`. Raises Absent where it isn't there."""
    module, function = name.split(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise Absent(f"{module} can't be imported: {error}") from error
    return found


def call(function: str, given: dict[str, Any]) -> Generator[Any, None, None]:
    """The job of a single answer: what the function returns. The argument `data` is a path."""
    if "data" in given:
        given["data"] = Path(given["data"])
    yield named(function)(**given)


def listen(requests: SimpleQueue[str]) -> None:
    """Take requests while the job is at work, and stop it where it stands when who asked is gone."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def main() -> None:
    """Do one job, until nobody asks any more."""
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=listen, args=(requests,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    job: Generator[Any, Any, None] | None = None
    while True:
        request = json.loads(requests.get())
        try:
            if job is None:
                job = named(request["job"])(**request["given"])
                answer = {"value": next(job)}
            else:
                answer = {"value": job.send(request)}
        except Absent as why:
            answer = {"absent": str(why)}
        except Exception as error:  # another's code, with another version than ours was tried with: it is reported
            answer = {"absent": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
