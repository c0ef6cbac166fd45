"""The guard in front of all routes: who may ask, how much, in what form; and the headers that every answer has.

It reads a request's body itself, within its limits of size, time and depth, and hands it on once it is sound JSON, so that
nothing behind it meets a huge, endless, bottomless or misspelled one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sprout.common.errors import UserError
from sprout.serve.errors import ApiError, api_error, busy, draining
from sprout.serve.metrics import Metrics

LARGEST_BODY = 1 << 20  # bytes
SWALLOWED = 8 << 20  # bytes of a body that is too large which are read and dropped, so that the client hears why
DEEPEST = 64  # arrays and objects inside one another
SLOWEST_BODY = 30.0  # seconds
COOKIE = "sprout_session"
OPEN_PATHS = ("/", "/health", "/login")  # and /page/*: what can be had without the key
JSON_PATHS = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/render", "/login")
WORK_PATHS = ("/v1/chat/completions", "/v1/completions")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "SAMEORIGIN",
}


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_key(key: str) -> None:
    """Raise UserError for a key that can't stand in a header."""
    if not key or not key.isascii() or not key.isprintable() or " " in key or len(key) > 1000:
        raise UserError("the API key can't be used; expected 1 to 1000 ASCII characters without spaces.")


class Access:
    """Who may ask: the key, and the session that it opens in a browser."""

    def __init__(self, key: str | None, loopback: bool) -> None:
        self._key = None if key is None else digest(key)
        self.session = secrets.token_urlsafe(32)
        self._session = digest(self.session)
        self.loopback = loopback

    @property
    def locked(self) -> bool:
        return self._key is not None

    def opens(self, key: str) -> bool:
        """Whether that is the key. The time it takes says nothing about it."""
        return self._key is None or hmac.compare_digest(digest(key), self._key)

    def check(self, path: str, method: str, headers: dict[str, str]) -> None:
        """Raise ApiError for who may not ask."""
        host = headers.get("host", "")
        if self.loopback and not is_loopback(host_name(host)):
            # Another site's name that was made to point here (DNS rebinding) would make that site's scripts ours.
            raise ApiError(403, "the server answers to localhost, 127.0.0.1 and [::1] alone", "wrong_host")
        origin = headers.get("origin")
        if origin is not None and method not in ("GET", "HEAD", "OPTIONS") and urlsplit_host(origin) != host.lower():
            raise ApiError(403, "requests of other sites' pages are refused", "wrong_origin")
        if not self.locked or path in OPEN_PATHS or path.startswith("/page/"):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.opens(given.strip()):
            return
        if hmac.compare_digest(digest(cookie(headers.get("cookie", ""))), self._session):
            return
        message = "the key is missing or wrong; expected the header Authorization: Bearer KEY"
        raise ApiError(
            401, message, "invalid_api_key", kind="authentication_error", headers={"WWW-Authenticate": "Bearer"}
        )


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def urlsplit_host(origin: str) -> str:
    """The host and port of an Origin header; empty for 'null' and what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def cookie(header: str) -> str:
    """The session that a Cookie header names."""
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


class Guard:
    """The ASGI application around all others. `working` counts the replies that are being answered."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics, most: int) -> None:
        self.app, self.access, self.metrics, self.most = app, access, metrics, most
        self.working, self.draining = 0, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name.lower() for name, _ in message.get("headers", [])}
                cache = "no-cache" if scope["path"].startswith("/page/") else "no-store"  # files are asked for anew
                known = HEADERS | {"cache-control": cache}
                more = [(k.encode(), v.encode()) for k, v in known.items() if k.encode() not in there]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        work = scope["path"] in WORK_PATHS
        self.working += work
        try:
            await self._serve(scope, receive, answer)
        except Exception as error:
            if status:
                if status != 500:  # that one has been told and logged
                    raise
                return
            await api_error(error).response()(scope, receive, answer)
        finally:
            self.working -= work
            self.metrics.requests.labels(route_of(scope), str(status or 499)).inc()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        path, method = scope["path"], scope["method"]
        self.access.check(path, method, headers)
        if method == "POST" and path in JSON_PATHS:
            if path in WORK_PATHS and self.working > self.most:
                raise busy(f"{self.working} requests are being answered; try again later")
            body = await read_body(headers, receive)
            check_json(body)
            if self.draining and path != "/login":
                raise draining()
            receive = replay(body, receive)
        await self.app(scope, receive, send)


def route_of(scope: Scope) -> str:
    """The route's pattern, as a label: there are only as many as there are routes."""
    path = getattr(scope.get("route"), "path", None)
    if path:
        return str(path)
    return scope["path"] if scope["path"] in JSON_PATHS or scope["path"] in OPEN_PATHS else "other"


async def read_body(headers: dict[str, str], receive: Receive) -> bytes:
    """The whole body. Raises ApiError: 415 for what isn't called JSON, 413 for too much, 408 for too slow."""
    kind, _, parameters = headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise ApiError(415, "expected the header Content-Type: application/json", "unsupported_media_type")
    if headers.get("content-encoding", "identity") != "identity":
        raise ApiError(415, "the body must not be compressed", "unsupported_media_type")
    length = headers.get("content-length", "")
    parts, size = [], 0
    limit = SWALLOWED if not length.isdecimal() or int(length[:20]) <= SWALLOWED else 0
    try:
        async with asyncio.timeout(SLOWEST_BODY):
            more = limit > 0
            while more and size <= limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ApiError(400, "the body broke off", "invalid_value")
                size += len(message.get("body", b""))
                if size <= LARGEST_BODY:
                    parts.append(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        told = f"the body took more than {SLOWEST_BODY:g} seconds"
        raise ApiError(408, told, "too_slow", headers={"Connection": "close"}) from None
    if not limit or size > LARGEST_BODY:
        told = f"the body has more than {LARGEST_BODY} bytes"
        raise ApiError(413, told, "too_large", headers={"Connection": "close"} if more or not limit else None)
    return b"".join(parts)


def check_json(body: bytes) -> None:
    """Raise ApiError for what isn't strict JSON in UTF-8, at most DEEPEST deep."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=no_number)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except RecursionError:
        raise ApiError(400, f"the JSON is more than {DEEPEST} levels deep", "invalid_json") from None
    except UnicodeError:
        raise ApiError(400, "the body is not UTF-8", "invalid_json") from None
    except json.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise ApiError(400, message, "invalid_json") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", "invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body is not a JSON object", "invalid_json")
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [x for v in level for x in (v.values() if isinstance(v, dict) else v) if isinstance(x, (dict, list))]
        if not level:
            return
    raise ApiError(400, f"the JSON is more than {DEEPEST} levels deep", "invalid_json")


def no_number(name: str) -> None:
    """NaN and Infinity, which Python reads and JSON doesn't know."""
    raise ValueError(f"{name} is no number")


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, then what the real one gives: that the client has gone."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
