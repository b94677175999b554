"""A POST that is sent twice does its work once.

Two ways lead here. A client that sends `Idempotency-Key` gets the first answer again for the same body, for 24 hours,
and 409 for another body. The official client sends no such header, but tells of a retry in `x-stainless-retry-count`:
what it repeats (the same key, path and body) after an answer that it may have missed gets that answer, for some
minutes, where the route makes something that would then be there twice.

Only answers of success are kept; after a failure the same request may be tried again. A stream cannot be kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from .errors import ApiError, invalid
from .records.repeats import Answer, Claim, Repeats

HEADER = "idempotency-key"
_LONGEST = 255
_POLL, _PATIENCE = 0.05, 60.0
"""Seconds: how often and how long a second caller waits for the first one's answer."""

Own = Callable[[Request], Awaitable[Response]]


def key_of(request: Request) -> str | None:
    """The header's value. ApiError 400 for one that is none."""
    key = request.headers.get(HEADER)
    if key is not None and not (0 < len(key) <= _LONGEST and key.isascii() and key.isprintable()):
        raise invalid(f"Idempotency-Key must have 1 to {_LONGEST} printable ASCII characters.", HEADER)
    return key


def is_form(request: Request) -> bool:
    """Whether the body is a multipart form, which is read as a stream by its route and by nobody else."""
    return request.headers.get("content-type", "").lower().startswith("multipart/")


async def once(request: Request, own: Own) -> Response:
    """The route's answer, or the one that it gave before. Reads the body of every POST that is no form."""
    key = key_of(request)
    if request.method != "POST" or is_form(request):
        return await own(request)
    body = await request.body()
    who, repeats = request.state.caller, request.app.state.services.repeats
    digest, route = digest_of(request, body), request.scope["path"]
    if key is not None:
        return await repeated(repeats, who.project_id, _named(who.key_id, key), route, digest, lambda: own(request))
    again = f"again:{who.key_id}:{digest}"
    if request.headers.get("x-stainless-retry-count", "0") != "0":
        answer = await run_in_threadpool(repeats.recall, who.project_id, again)
        if answer is not None:
            return _replay(answer)
    response = await own(request)
    if "train" in request.state.scopes and _success(response):
        await run_in_threadpool(repeats.remember, who.project_id, again, route, digest, _kept(response))
    return response


def digest_of(request: Request, body: bytes) -> str:
    """SHA-256 of what was asked for."""
    frame = f"{request.method} {request.scope['path']}?{request.scope['query_string'].decode('latin-1')}\n".encode()
    return hashlib.sha256(frame + body).hexdigest()


def _named(key_id: str, key: str) -> str:
    """The name of an answer: the same header of two API keys means two things. Hashed, for a header may be long."""
    return f"key:{key_id}:{hashlib.sha256(key.encode()).hexdigest()}"


async def repeated(
    repeats: Repeats, project_id: str, name: str, route: str, digest: str, make: Callable[[], Awaitable[Response]]
) -> Response:
    """Make the answer unless it is there; wait for a caller that is just making it. ApiError 409."""
    waited = 0.0
    while not (claim := await run_in_threadpool(repeats.claim, project_id, name, route, digest)).mine:
        if (answer := _known(claim, digest, waited)) is not None:
            return answer
        await asyncio.sleep(_POLL)
        waited += _POLL
    try:
        response = await make()
    except BaseException:
        await run_in_threadpool(repeats.release, project_id, name, claim)
        raise
    if _success(response):
        await run_in_threadpool(repeats.finish, project_id, name, claim, _kept(response))
    else:
        await run_in_threadpool(repeats.release, project_id, name, claim)
    return response


def form_once(request: Request, content: str, make: Callable[[], BaseModel]) -> Response:
    """The same for a form, whose route knows by now what it holds: `content` says so, with the hash of each file.

    For routes in threads of their own. ApiError 409.
    """
    key, who = key_of(request), request.state.caller
    if key is None:
        return _json(make())
    repeats: Repeats = request.app.state.services.repeats
    name, digest, waited = _named(who.key_id, key), digest_of(request, content.encode()), 0.0
    while not (claim := repeats.claim(who.project_id, name, request.scope["path"], digest)).mine:
        if (answer := _known(claim, digest, waited)) is not None:
            raise Repeated(answer)
        time.sleep(_POLL)
        waited += _POLL
    try:
        response = _json(make())
    except BaseException:
        repeats.release(who.project_id, name, claim)
        raise
    repeats.finish(who.project_id, name, claim, _kept(response))
    return response


class Repeated(Exception):  # noqa: N818  # no error: an answer
    """The answer is there already: what the route has stored by now is to be removed."""

    def __init__(self, answer: Response):
        super().__init__("answered before")
        self.answer = answer


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump(mode="json"))


def _known(claim: Claim, digest: str, waited: float) -> Response | None:
    """The answer that another caller got; None where it is still to come. ApiError 409."""
    if claim.digest != digest:
        raise ApiError(
            409, "This Idempotency-Key was used for another request.", type="idempotency_error", param=HEADER,
            code="idempotency_key_reused", headers={"x-should-retry": "false"},
        )  # fmt: skip
    if claim.answer is not None:
        return _replay(claim.answer)
    if waited > _PATIENCE:
        raise ApiError(
            409, "A request with this Idempotency-Key is still at work.", type="idempotency_error", param=HEADER,
            code="idempotency_key_in_use", headers={"retry-after": "1"},
        )  # fmt: skip
    return None


def _success(response: Response) -> bool:
    """Whether an answer can be given again."""
    return response.status_code < 300 and not isinstance(response, StreamingResponse) and hasattr(response, "body")


def _kept(response: Response) -> Answer:
    body: Any = response.body
    return Answer(response.status_code, bytes(body).decode("utf-8"), response.media_type or "application/json")


def _replay(answer: Answer) -> Response:
    return Response(
        answer.body, answer.status, media_type=answer.media_type, headers={"idempotent-replayed": "true"}
    )  # fmt: skip
