"""How a server holds out: many clients at once, then many requests one after another. No test; run it by hand:

    sprout serve --model runs/default &
    python tests/load_serve.py http://127.0.0.1:8000 --pid $!

It prints the times to the first word of `--clients` streams that begin together, and the memory of the server (given its
process id) over `--requests` requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

import psutil

QUESTIONS = ("What is 123 + 456?", "Tell me a story.", "Who are you?", "Sort these: 5, 3, 9, 1.", "How do you spell garden?")


class Client:
    """One connection, kept alive; plain, so that it takes as little of the machine as it can."""

    def __init__(self, url: str, key: str) -> None:
        self.host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
        self.port, self.key = int(port), key
        self.reader: Any = None
        self.writer: Any = None

    async def post(self, body: dict[str, Any]) -> float:
        """Ask, and read the answer to its end: seconds to the first text of a stream. Raises RuntimeError for an error."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host.strip("[]"), self.port)
        data = json.dumps(body).encode()
        lines = ("POST /v1/chat/completions HTTP/1.1", f"Host: {self.host}:{self.port}", "Content-Type: application/json",
                 f"Content-Length: {len(data)}", *([f"Authorization: Bearer {self.key}"] if self.key else []))  # fmt: skip
        began, first = time.perf_counter(), 0.0
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError((head + await self.reader.read(1000)).decode("utf-8", "replace"))
        if b"transfer-encoding: chunked" in head.lower():
            while size := int(await self.reader.readline(), 16):
                piece = await self.reader.readexactly(size + 2)
                if not first and b'"content":"' in piece and b'"content":""' not in piece:
                    first = time.perf_counter() - began
            await self.reader.readline()
        else:
            length = next(int(h.partition(b":")[2]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length"))
            await self.reader.readexactly(length)
        return first

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def question(model: str, i: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTIONS[i % len(QUESTIONS)]}]
    return {"model": model, "messages": messages, "seed": i, "temperature": 1, **more}


async def at_once(url: str, key: str, model: str, count: int) -> None:
    """Streams that begin together."""
    clients = [Client(url, key) for _ in range(count)]
    await asyncio.gather(*(c.post(question(model, i, max_tokens=1)) for i, c in enumerate(clients)))  # connected now
    for name, n in (("one client", 1), (f"{count} at once", count)):
        began = time.perf_counter()
        first = sorted(await asyncio.gather(*(c.post(question(model, i, stream=True, max_tokens=100)) for i, c in enumerate(clients[:n]))))
        took = time.perf_counter() - began
        print(f"{name:16} first word: median {1e3 * statistics.median(first):6.0f} ms, slowest {1e3 * first[-1]:6.0f} ms "
              f"({first[-1] / statistics.median(first):.2f} x median); all done in {took:.2f} s")  # fmt: skip
    for c in clients:
        c.close()


async def many(url: str, key: str, model: str, count: int, width: int, server: psutil.Process | None) -> None:
    """Requests, `width` at a time; the server's memory ten times on the way."""
    numbers = iter(range(count))
    print(f"{'requests':>9} {'seconds':>8} {'server, MB':>11}")

    def tell(done: int) -> None:
        memory = f"{server.memory_info().rss / 1e6:11.1f}" if server else " " * 11
        print(f"{done:9} {time.perf_counter() - began:8.1f} {memory}", flush=True)

    async def work() -> None:
        client = Client(url, key)
        for i in numbers:
            await client.post(question(model, i, max_tokens=1 + i % 8, stream=i % 2 == 0, n=1 + i % 2))
            if (i + 1) % max(1, count // 10) == 0:
                tell(i + 1)
        client.close()

    began = time.perf_counter()
    tell(0)
    await asyncio.gather(*(work() for _ in range(width)))


async def run(a: argparse.Namespace) -> None:
    await at_once(a.url, a.key, a.model, a.clients)
    await many(a.url, a.key, a.model, a.requests, a.width, psutil.Process(a.pid) if a.pid else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--model", default="default")
    parser.add_argument("--key", default="")
    parser.add_argument("--pid", type=int, default=0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=32)
    asyncio.run(run(parser.parse_args()))
