"""The routes. Each reads a request, asks the engine through the runner, and answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles

from sprout import __version__
from sprout.engine import Engine, Prompt, Toolbox
from sprout.report.live import LiveRun
from sprout.serve import documents, errors, prompts, replies, schema
from sprout.serve.errors import ApiError, busy
from sprout.serve.limits import COOKIE, Access, Guard
from sprout.serve.metrics import Metrics
from sprout.serve.models import Loaded, Shelf
from sprout.serve.render import code_css, render
from sprout.serve.runner import LAG, Reply, Runner
from sprout.serve.stream import EventStream, Gone, unless_gone

HELPERS = 2  # threads that prepare requests
MOST_TOKENS = 1 << 16  # that /tokenize shows, far over any context: each is 50 bytes of the answer, and 700 in the making
PAGE = Path(str(files("sprout.serve") / "page"))
# A report is one page with its styles inside; nothing of it can run.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is started with. `loopback`: it can be reached from this machine alone."""

    model: Path
    api_key: str | None = None
    loopback: bool = True
    rows: int = 64
    waiting: int = 256
    watch: bool = False
    python: bool = False
    tools: Toolbox = field(default_factory=dict)  # besides the house's
    lag: int = LAG


class Service:
    """Everything behind the routes. `app` is what a server serves. `start` before, `close` after."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shelf = Shelf(settings.model, settings.watch, settings.python, settings.tools)
        self.metrics = Metrics()
        self.runner = Runner(self.metrics, settings.rows, settings.waiting, settings.lag)
        self.live = None if self.shelf.single else LiveRun(settings.model)
        self.access = Access(settings.api_key, settings.loopback)
        self.helpers = ThreadPoolExecutor(HELPERS, "sprout-helper")
        self.preparing = 0
        self.api = routes(self)
        self.app = Guard(self.api, self.access, self.metrics, settings.rows + settings.waiting)

    def start(self) -> None:
        self.runner.start()

    def close(self) -> None:
        self.runner.close()
        self.helpers.shutdown(wait=False, cancel_futures=True)

    async def help(self, work: Callable[[], T]) -> T:
        """Do what takes a while in a thread. Raises ApiError (429) if too much waits for that already."""
        if self.preparing >= self.settings.waiting + HELPERS:
            raise busy(f"{self.preparing} requests are being prepared; try again later")
        self.preparing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.helpers, work)
        finally:
            self.preparing -= 1

    async def submit(self, name: str, stream: bool, task: Callable[[Engine], prompts.Task]) -> tuple[Loaded, Reply]:
        """Find the model, prepare the requests and hand them to the runner."""

        def prepare() -> tuple[Loaded, list[prompts.Request]]:
            loaded = self.shelf.load(name)
            return loaded, task(loaded.engine).prepare(loaded.engine)

        loaded, requests = await self.help(prepare)
        return loaded, await self.runner.submit(loaded, requests, stream)

    async def answer(
        self, request: Request, body: schema.Asked, task: Callable[[Engine], prompts.Task],
        make: Callable[[Loaded], replies.Answer],
    ) -> Response:  # fmt: skip
        """The whole way of a request for a reply."""
        if body.stream:
            loaded, reply = await unless_gone(request.receive, self.submit(body.model, True, task))
            stream = EventStream(self.lines(reply, make(loaded)), lambda: self.runner.drop(reply))
            reply.lagged = stream.lagging
            return stream
        return JSONResponse(await unless_gone(request.receive, self.whole(body, task, make)))

    async def whole(
        self, body: schema.Asked, task: Callable[[Engine], prompts.Task], make: Callable[[Loaded], replies.Answer]
    ) -> dict[str, Any]:
        """A reply that isn't streamed."""
        loaded, reply = await self.submit(body.model, False, task)
        answer, times = make(loaded), {}
        try:
            async for pieces in reply.pieces():
                for index, event, at in pieces:
                    if event.completion is not None:
                        answer.done[index], times[index] = event.completion, at
        finally:
            self.runner.drop(reply)
        return answer.body(times)

    async def lines(self, reply: Reply, answer: replies.Answer) -> AsyncIterator[bytes]:
        """A reply as server-sent events; what came together goes out together."""
        yield b"".join(map(replies.line, answer.begin()))
        async for pieces in reply.pieces():
            chunks = []
            for index, event, at in pieces:
                if index not in answer.first:
                    self.metrics.first.observe(at - answer.begun)
                chunks += answer.events(index, event, at)
            if chunks:
                yield b"".join(map(replies.line, chunks))
        yield b"".join(map(replies.line, answer.end())) + b"data: [DONE]\n\n"


def routes(service: Service) -> FastAPI:
    """The application: what the API document lists, and the page."""
    app = FastAPI(title="Sprout", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    errors.install(app)
    app.add_exception_handler(Gone, lambda request, error: Response(status_code=499))  # nobody reads it
    documents.install(app, service.access.locked)
    chat_routes(app, service)
    other_routes(app, service)
    page_routes(app, service)
    return app


def chat_routes(app: FastAPI, service: Service) -> None:
    """OpenAI's API."""

    @app.post("/v1/chat/completions", **documents.CHAT)
    async def chat(body: schema.ChatRequest, request: Request) -> Response:
        """Go on with a conversation."""
        begun, usage = time.perf_counter(), bool(body.stream_options and body.stream_options.include_usage)
        own = {tool.function.name for tool in body.tools or []}

        def make(loaded: Loaded) -> replies.Answer:
            return replies.ChatAnswer(
                loaded.place.id, loaded.engine.tokenizer, begun, body.n or 1, bool(body.logprobs), usage, own
            )

        return await service.answer(request, body, lambda engine: prompts.chat_task(body, engine), make)

    @app.post("/v1/completions", **documents.COMPLETIONS)
    async def completions(body: schema.CompletionRequest, request: Request) -> Response:
        """Go on with a plain text."""
        begun, usage = time.perf_counter(), bool(body.stream_options and body.stream_options.include_usage)

        def make(loaded: Loaded) -> replies.Answer:
            return replies.TextAnswer(
                loaded.place.id, loaded.engine.tokenizer, begun, body.n or 1, body.logprobs is not None, usage
            )

        return await service.answer(request, body, lambda engine: prompts.completion_task(body, engine), make)

    @app.get("/v1/models", **documents.MODELS)
    async def models() -> Response:
        """Which models there are, the last stage first."""
        return JSONResponse({"object": "list", "data": await service.help(service.shelf.cards)})

    @app.get("/v1/models/{model:path}", **documents.MODEL)
    async def model(model: str) -> Response:
        """One of them."""
        return JSONResponse(await service.help(lambda: service.shelf.card(service.shelf.find(model))))


def other_routes(app: FastAPI, service: Service) -> None:
    """What the page needs besides, and who watches over the server."""

    @app.post("/tokenize", **documents.TOKENIZE)
    async def tokenize(body: schema.TokenizeText | schema.TokenizeChat) -> Response:
        """How a model reads a text or a conversation."""
        return JSONResponse(await service.help(lambda: tokens(service, body)))

    @app.post("/render", **documents.RENDER)
    async def markdown(body: schema.RenderRequest) -> Response:
        """Markdown as safe HTML."""
        return JSONResponse({"html": await service.help(lambda: render(body.text))})

    @app.post("/login", **documents.LOGIN)
    async def login(body: schema.LoginRequest) -> Response:
        """Open a session in a browser."""
        if not service.access.opens(body.key):
            raise ApiError(401, "the key is wrong", "invalid_api_key", "key", "authentication_error")
        response = JSONResponse({"ok": True})
        if service.access.locked:
            response.set_cookie(COOKIE, service.access.session, httponly=True, samesite="strict")
        return response

    @app.get("/health", **documents.HEALTH)
    async def health() -> Response:
        """Whether new work is taken in."""
        state = "draining" if service.app.draining else "ok"
        return JSONResponse({"status": state, "working": service.app.working}, 503 if service.app.draining else 200)

    @app.get("/metrics", **documents.METRICS)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/grow/state", **documents.GROW)
    async def grow_state() -> Response:
        """How far the run is that the server was started on."""
        if service.live is None:
            raise ApiError(404, "the server was not started on a run", "not_found")
        return JSONResponse(await service.help(service.live.state))


def page_routes(app: FastAPI, service: Service) -> None:
    """The page, its files, the run's report."""

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        found = PAGE / "index.html"
        text = (
            found.read_text("utf-8") if found.is_file() else "<!doctype html><title>Sprout</title><p>There is no page."
        )
        return HTMLResponse(text, headers={"Cache-Control": "no-cache"})

    @app.get("/report", include_in_schema=False)
    async def report() -> Response:
        file = service.shelf.run / "report.html"
        if not file.is_file():
            raise ApiError(404, "there is no report yet", "not_found")
        text = await service.help(lambda: file.read_text("utf-8"))
        return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})

    @app.get("/page/code.css", include_in_schema=False)
    async def code() -> Response:
        return Response(code_css(), media_type="text/css")

    app.mount("/page", StaticFiles(directory=PAGE))


def tokens(service: Service, body: schema.TokenizeText | schema.TokenizeChat) -> dict[str, Any]:
    """The tokens of a text or a conversation. Raises ApiError."""
    engine = service.shelf.load(body.model).engine
    if isinstance(body, schema.TokenizeText):
        ids = engine.tokenizer.encode(body.text)
    else:
        house = prompts.house_tools(body.house_tools, engine)
        ids = engine.prompt_ids(Prompt(tuple(prompts.conversation(body.messages)), house))
    if len(ids) > MOST_TOKENS:
        raise ApiError(400, f"that has {len(ids)} tokens; expected at most {MOST_TOKENS}", "too_large")
    special = set(engine.tokenizer.specials.values())
    names = [replies.spelled(engine.tokenizer, i) for i in ids]
    told = [{"id": n["id"], "text": n["token"], "bytes": n["bytes"], "special": n["id"] in special} for n in names]
    return {"count": len(ids), "tokens": told}
