"""Errors as the API tells them: a status and `{"error": {"message", "type", "param", "code"}}`, from whatever went wrong.

No trace and no path of the server's ever stands in one; what is nobody's business is written to the log instead.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sprout.common.errors import UserError
from sprout.engine import Busy, TooLong

log = logging.getLogger("sprout.serve")
RETRY_AFTER = 2  # seconds that a client should wait when too much is going on
LONGEST_MESSAGE = 600  # characters of an error's text
CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None,
        kind: str = "", headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message[:LONGEST_MESSAGE], code, param
        self.kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def busy(message: str) -> ApiError:
    """Too much is going on."""
    return ApiError(
        429, message, "rate_limit_exceeded", kind="rate_limit_error", headers={"Retry-After": f"{RETRY_AFTER}"}
    )


def draining(message: str = "the server is shutting down and takes in nothing more") -> ApiError:
    """The server is about to end."""
    return ApiError(503, message, "shutting_down", headers={"Retry-After": "10"})


def api_error(error: Exception) -> ApiError:
    """What to tell about an exception; what nobody should see goes to the log."""
    match error:
        case ApiError():
            return error
        case TooLong():
            # In OpenAI's words, by which clients such as litellm know it.
            message = f"This model's maximum context length is {error.context} tokens, its reply included; {error}"
            return ApiError(400, message, "context_length_exceeded", "messages")
        case Busy():
            return busy(str(error))
        case UserError():
            return ApiError(400, str(error), "invalid_value")
        case RequestValidationError():
            return invalid(error.errors(), error.body)
        case HTTPException():
            detail = str(error.detail).lower()
            message = {
                404: "there is no such route; /openapi.json lists them",
                405: "the route does not know this method",
                400: "the body is not JSON",
            }.get(error.status_code, detail)
            return ApiError(error.status_code, message, CODES.get(error.status_code), headers=error.headers)
        case _:
            log.error("an error nobody thought of", exc_info=error)
            return ApiError(500, "something went wrong in the server; its log says more", "internal_error")


def invalid(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """A body that doesn't fit the request's schema: the place that is wrong, and why."""
    placed = [(place(error["loc"], body), error) for error in errors]
    for where, error in placed:
        if error["type"] == "unsupported_parameter":
            param = error.get("ctx", {}).get("param") or where
            return ApiError(400, f"{param}: {error['msg']}", "unsupported_parameter", param)
    deepest = max(len(e["loc"]) for _, e in placed)
    where, worst = next((w, e) for w, e in placed if len(e["loc"]) == deepest)
    told = list(dict.fromkeys(e["msg"] for w, e in placed if w == where))
    code = "missing_required_parameter" if worst["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{where or 'the body'}: {'; or '.join(told)}", code, where or None)


def place(loc: Sequence[str | int], body: Any) -> str:
    """The path of a wrong value as the client wrote it, such as messages[0].content: the names that the check gives to
    the alternatives of a union are no part of it."""
    path, here = "", body
    for i, step in enumerate(loc[1:] if loc and loc[0] == "body" else loc):
        last = i == len(loc) - 2
        if isinstance(step, int) and isinstance(here, list):
            path += f"[{step}]"
            here = here[step] if step < len(here) else None
        elif isinstance(step, str) and isinstance(here, dict) and (step in here or last):
            path += f".{step}" if path else step
            here = here.get(step)
    return path[:200]


def install(app: FastAPI) -> None:
    """Every error of every route as an error object."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return api_error(error).response()

    for kind in (ApiError, UserError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)
