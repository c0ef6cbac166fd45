"""A server in a thread of the test's own process, over a tiny random model. No test itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch

from sprout.model import GPT, GPTConfig
from sprout.model.hf import save_hf
from sprout.serve.app import Service, Settings
from sprout.serve.server import Server, address_of, bind, running
from sprout.tokenizer import Tokenizer

WORDS = "The quick brown fox asked Mira what 12 + 30 may be. Ünïcode 🦊 calculator expression lookup name answer is 42."


def tiny_stage(folder: Path, context: int = 512, seed: int = 0) -> Path:
    """A stage's folder with a random model, all of whose matrices matter."""
    tokenizer = Tokenizer.train([WORDS] * 3, 300)
    model = GPT(GPTConfig(tokenizer.vocab_size, context, 2, 32, 4, 2, 8, 64), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.3, generator=generator)
    save_hf(model, tokenizer, folder)
    return folder


def tiny_run(run: Path, *stages: str, context: int = 512) -> Path:
    """A run of random models."""
    for i, stage in enumerate(stages or ("pretrain", "finetune")):
        tiny_stage(run / "stages" / stage, context, i)
    return run


@dataclass
class Served:
    """A running server."""

    url: str
    service: Service
    server: Server
    thread: threading.Thread
    plain: httpx.Client

    def client(self, **named: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **named)

    def metric(self, name: str) -> float:
        """One of its figures."""
        found = [v for line in self.plain.get("/metrics").text.splitlines() for k, _, v in [line.rpartition(" ")] if k == name]
        return float(found[0])

    def idle(self, seconds: float = 5.0) -> bool:
        """Whether nothing runs or waits any more, soon."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if not self.metric("sprout_running") and not self.metric("sprout_queued"):
                return True
            time.sleep(0.02)
        return False


@contextlib.contextmanager
def served(model: Path, grace: float = 5.0, **settings: Any) -> Iterator[Served]:
    """A server on a free port."""
    service = Service(Settings(model, **settings))
    server = Server(service, grace)
    sock = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
    with running(service):
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            with httpx.Client(base_url=address_of(sock), timeout=60) as plain:
                yield Served(address_of(sock), service, server, thread, plain)
        finally:
            server.should_exit = True
            thread.join(15)
    assert not thread.is_alive()


def ask(text: str = "Hello Mira", **more: Any) -> dict[str, Any]:
    """A small request for a chat."""
    return {"model": "r", "messages": [{"role": "user", "content": text}], "max_tokens": 8, "seed": 1, **more}


def weather(**more: Any) -> dict[str, Any]:
    """A tool of the caller's."""
    parameters = {
        "type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}, "days": {"enum": [1, 2]}},
        "required": ["city", "days"], "additionalProperties": False,
    }  # fmt: skip
    return {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": parameters, **more}}
