"""The API's own document, /openapi.json: which answers each route gives."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from sprout.serve import answers
from sprout.serve.limits import COOKIE, OPEN_PATHS

WHY = {
    400: "The request is wrong; `param` names the field.",
    401: "The key is missing or wrong.",
    403: "Asked under a wrong host name, or by another site's page.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is not called JSON.",
    429: "Too much is going on; Retry-After says when to try again.",
    500: "Something went wrong in the server.",
    503: "The server is shutting down.",
}


STREAM = "text/event-stream"
# One event of a stream.
EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "description": "A chunk as JSON, or an error object; at last [DONE]."}},
}


def documented(answer: type[BaseModel] | None, *statuses: int, kind: str = "", what: str = "Done.") -> dict[str, Any]:
    """A route's answers: of status 200 and the errors."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": WHY[status], "model": answers.ErrorBody} for status in statuses
    }
    responses[200] = {"description": what}
    if answer:
        responses[200]["model"] = answer
    if kind:
        responses[200]["content"] = {kind: {"schema": EVENT if kind == STREAM else {"type": "string"}}}
    return {"responses": responses, "response_model": None}


ALL = (401, 403, 500)
POSTED = (*ALL, 400, 408, 413, 415, 503)
CHAT = documented(
    answers.ChatCompletion, *POSTED, 404, 429, kind=STREAM, what="The reply, whole or as a stream of chunks."
)
COMPLETIONS = documented(answers.TextCompletion, *POSTED, 404, 429, kind=STREAM, what="The same for plain texts.")
MODELS = documented(answers.ModelList, *ALL, 429)
MODEL = documented(answers.Model, *ALL, 404, 429)
TOKENIZE = documented(answers.Tokens, *POSTED, 404, 429)
RENDER = documented(answers.Html, *POSTED, 429)
LOGIN = documented(answers.Ok, *POSTED)
HEALTH = documented(answers.Health, 403, 500)
HEALTH["responses"][503] = {"description": WHY[503], "model": answers.Health}
METRICS = documented(None, *ALL, kind="text/plain")
GROW = documented(None, *ALL, 404, 429, kind="application/json")
GROW["responses"][200]["content"]["application/json"] = {"schema": {"type": "object"}}


def install(app: FastAPI, locked: bool) -> None:
    """Make the document without what FastAPI adds for its own errors, which are ours here; and with the key."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            plain = get_openapi(title=app.title, version=app.version, routes=app.routes, description=__doc__)
            for path, item in plain["paths"].items():
                for operation in item.values():
                    operation["responses"].pop("422", None)
                    for status, answer in operation["responses"].items():
                        if status == "429" or (status == "503" and path != "/health"):
                            answer["headers"] = {"Retry-After": {"required": True, "schema": {"type": "string"}}}
                    if locked and path not in OPEN_PATHS:
                        operation["security"] = [{"key": []}, {"session": []}]
            for name in ("HTTPValidationError", "ValidationError"):
                plain["components"]["schemas"].pop(name, None)
            if locked:
                session = {"type": "apiKey", "in": "cookie", "name": COOKIE}
                plain["components"]["securitySchemes"] = {
                    "key": {"type": "http", "scheme": "bearer"},
                    "session": session,
                }
            app.openapi_schema = plain
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
