"""Every failure in the envelope that clients of the hosted API parse.

    {"error": {"message": str, "type": str, "param": str | null, "code": str | null}}

FastAPI's own 422 becomes a 400 `invalid_request_error`; an error of ours that no route expected becomes a 500 that
says nothing of its cause: the log has it, under the request's id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

log = logging.getLogger("tunesmith.server")

INVALID = "invalid_request_error"
_TYPES = {401: INVALID, 403: INVALID, 404: INVALID, 409: INVALID, 429: "rate_limit_error"}
_SHOWN = 80
"""Characters of a wrong value that a message repeats."""


class Error(BaseModel):
    """What went wrong. `param` names the field or parameter, `code` is for programs."""

    message: str
    type: str
    param: str | None = Field(...)
    code: str | None = Field(...)


class Envelope(BaseModel):
    """The body of every failure."""

    error: Error


class ApiError(Exception):
    """A failure that the client is told of, with its status."""

    def __init__(
        self, status: int, message: str, *, type: str | None = None, param: str | None = None, code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.type = type or _TYPES.get(status) or (INVALID if status < 500 else "server_error")
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The envelope with its status."""
        content = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return JSONResponse({"error": content}, self.status, self.headers)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, message, param=param, code=code)


def no_such_file(id: str) -> ApiError:
    """404 of the files: the sentence that clients know."""
    return ApiError(404, f"No such File object: {id}", param="id")


def no_such_job(id: str) -> ApiError:
    """404 of the fine-tuning jobs."""
    return ApiError(404, f"Could not find fine tune: {id}", param="fine_tune_id", code="fine_tune_not_found")


def no_such_model(name: str) -> ApiError:
    """404 of the models."""
    return ApiError(
        404,
        f"The model `{name}` does not exist or you do not have access to it.",
        param="model",
        code="model_not_found",
    )


def install(app: FastAPI) -> None:
    """Make the app answer every failure in the envelope."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)


def from_validation(problems: Sequence[Any], *, strip: Sequence[str] = ("body", "query", "path", "header")) -> ApiError:
    """The first problem that pydantic found, in the words that the hosted API uses."""
    first = problems[0]
    place = list(first["loc"])
    if place and place[0] in strip:
        place = place[1:]
    kind, context = str(first["type"]), dict(first.get("ctx") or {})
    name = _dotted(place)
    if kind == "json_invalid":
        return invalid(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
            "library correctly. The API expects a JSON payload, but what was sent was not valid JSON.)"
        )
    if kind == "missing" and not name:
        return invalid("you must provide a JSON object as the body of your request")
    if kind == "missing":
        return invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    if kind == "extra_forbidden":
        return invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    if kind in ("literal_error", "enum"):
        message = f"Invalid value: {_shown(first.get('input'))}. Supported values are: {context.get('expected')}."
        return invalid(message, name or None, "invalid_value")
    words = str(first["msg"]).removeprefix("Value error, ")
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return invalid(f"Invalid '{name}': {words}." if name else words, name or None, code)


def from_pydantic(error: ValidationError) -> ApiError:
    """The same for a model that a route validated itself."""
    return from_validation(error.errors(include_url=False))


def _dotted(place: Sequence[Any]) -> str:
    """`messages[0].role`, as the hosted API writes places; names of union members are left out."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        elif str(step).isidentifier() or not text:
            text += f".{step}" if text else str(step)
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


async def _api_error(request: Request, error: Exception) -> Response:
    return cast(ApiError, error).response()


async def _validation(request: Request, error: Exception) -> Response:
    return from_validation(cast(RequestValidationError, error).errors()).response()


async def _http(request: Request, error: Exception) -> Response:
    """Starlette's own: an unknown path, a method that a path does not have."""
    failed, path = cast(HTTPException, error), request.scope["path"]
    if failed.status_code == 404:
        message = f"Invalid URL ({request.method} {path})"
    elif failed.status_code == 405:
        message = f"Not allowed to {request.method} on {path}."
    else:
        message = str(failed.detail)
    code = "unknown_url" if failed.status_code == 404 else None
    return ApiError(failed.status_code, message, code=code, headers=failed.headers).response()
