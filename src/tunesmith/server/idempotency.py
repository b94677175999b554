"""A POST that is sent twice does its work once.

Two ways lead here. A client that sends `Idempotency-Key` gets the first answer again for the same body, for 24 hours,
and 409 for another body. The official client sends no such header, but tells of a retry in `x-stainless-retry-count`:
what it repeats (the same key, path and body) after an answer that it may have missed gets that answer, for some
minutes, where the route makes something that would then be there twice.

Only answers of success are kept; after a failure the same request may be tried again. A stream cannot be kept. What is
made and its answer are written in one transaction (`Seal`): a server that is killed leaves both or neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from .errors import ApiError, invalid
from .records.repeats import Answer, Claim, LostClaimError, Repeats

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
        request.state.seal = Seal(lambda connection, answer: None)
        return await own(request)
    body = await request.body()
    asked = Asked.of(request, key, digest_of(request, body))
    if key is not None:
        return await _claimed(request, asked, own)
    if asked.retried and (answer := await run_in_threadpool(asked.recall)) is not None:
        return _replay(answer)
    response, seal = await _sealed(request, asked.unclaimed(), own)
    if seal.answer is None and asked.makes and _success(response):
        await run_in_threadpool(asked.remember, _kept(response))
    return response


def digest_of(request: Request, body: bytes) -> str:
    """SHA-256 of what was asked for."""
    frame = f"{request.method} {request.scope['path']}?{request.scope['query_string'].decode('latin-1')}\n".encode()
    return hashlib.sha256(frame + body).hexdigest()


@dataclass(frozen=True)
class Asked:
    """A request as its answer is filed: whose it is, under what name, and what it asks for."""

    repeats: Repeats
    project_id: str
    name: str
    """Of the answer: the same header of two API keys means two things. Hashed, for a header may be long."""
    route: str
    digest: str
    makes: bool
    """Whether its route makes things."""
    retried: bool
    """Whether the official client says that it sends the request again."""

    @staticmethod
    def of(request: Request, key: str | None, digest: str) -> Asked:
        """A request; `key` is its header, without which it is known by what it asks for."""
        who = request.state.caller
        named = f"again:{who.key_id}:{digest}"
        if key is not None:
            named = f"key:{who.key_id}:{hashlib.sha256(key.encode()).hexdigest()}"
        return Asked(
            request.app.state.services.repeats, who.project_id, named, request.scope["path"], digest,
            not request.state.scopes.isdisjoint(("train", "admin")),
            request.headers.get("x-stainless-retry-count", "0") != "0",
        )  # fmt: skip

    def claim(self) -> Claim:
        """Become the one who answers, unless another is or has."""
        return self.repeats.claim(self.project_id, self.name, self.route, self.digest)

    def release(self, claim: Claim) -> None:
        """Nothing came of it."""
        self.repeats.release(self.project_id, self.name, claim)

    def finish(self, claim: Claim, answer: Answer) -> None:
        """Keep the answer."""
        self.repeats.finish(self.project_id, self.name, claim, answer)

    def recall(self) -> Answer | None:
        """What a retry without a header may have missed."""
        return self.repeats.recall(self.project_id, self.name)

    def remember(self, answer: Answer) -> None:
        """Keep it for such a retry."""
        self.repeats.remember(self.project_id, self.name, self.route, self.digest, answer)

    def claimed(self, claim: Claim) -> Seal:
        """Keeps the answer that the claim is for."""
        return Seal(lambda connection, answer: self.repeats.keep(connection, self.project_id, self.name, claim, answer))

    def unclaimed(self) -> Seal:
        """Keeps what a retry without a header may miss, where the route makes things."""

        def put(connection: Connection, answer: Answer) -> None:
            if self.makes:
                self.repeats.put(connection, self.project_id, self.name, self.route, self.digest, answer)

        return Seal(put)


class Seal:
    """What a route calls in the transaction that makes something: the answer is kept in it.

    A server that is killed then leaves both or neither. LostClaimError, and nothing made, where another answers by now.
    """

    def __init__(self, keep: Callable[[Connection, Answer], None]):
        self._keep = keep
        self.answer: Answer | None = None
        """What was answered, once it is kept."""

    def __call__(self, connection: Connection, told: BaseModel, *, kept: BaseModel | None = None) -> None:
        """`told` is the answer; `kept` what a repeat gets, where that must not be the same."""
        self._keep(connection, _kept(_json(told if kept is None else kept)))
        self.answer = _kept(_json(told))


async def _seal(request: Request) -> Seal:
    return cast(Seal, request.state.seal)


Sealing = Annotated[Seal, Depends(_seal)]
"""For a route whose POST is no form: how it keeps its answer."""


async def _sealed(request: Request, seal: Seal, own: Own) -> tuple[Response, Seal]:
    """The route's answer; what it has sealed is what it says."""
    request.state.seal = seal
    try:
        response = await own(request)
    except LostClaimError as error:
        raise _in_use() from error
    return (response if seal.answer is None else _as_response(seal.answer)), seal


async def _claimed(request: Request, asked: Asked, own: Own) -> Response:
    """Make the answer unless it is there; wait for a caller that is just making it. ApiError 409."""
    waited = 0.0
    while not (claim := await run_in_threadpool(asked.claim)).mine:
        if (answer := _known(claim, asked.digest, waited)) is not None:
            return answer
        await asyncio.sleep(_POLL)
        waited += _POLL
    try:
        response, seal = await _sealed(request, asked.claimed(claim), own)
    except BaseException:
        await run_in_threadpool(asked.release, claim)
        raise
    if not _success(response):
        await run_in_threadpool(asked.release, claim)
    elif seal.answer is None:
        await run_in_threadpool(asked.finish, claim, _kept(response))
    return response


def form_once(request: Request, content: str, make: Callable[[Seal], BaseModel]) -> Response:
    """The same for a form, whose route knows by now what it holds: `content` says so, with the hash of each file.

    For routes in threads of their own. `make` seals its answer. ApiError 409; Repeated.
    """
    key = key_of(request)
    asked, waited = Asked.of(request, key, digest_of(request, content.encode())), 0.0
    if key is None:
        if asked.retried and (known := asked.recall()) is not None:
            raise Repeated(_replay(known))
        return _json(make(asked.unclaimed()))
    while not (claim := asked.claim()).mine:
        if (answer := _known(claim, asked.digest, waited)) is not None:
            raise Repeated(answer)
        time.sleep(_POLL)
        waited += _POLL
    try:
        return _json(make(asked.claimed(claim)))
    except LostClaimError as error:
        raise _in_use() from error
    except BaseException:
        asked.release(claim)
        raise


class Repeated(Exception):  # noqa: N818  # no error: an answer
    """The answer is there already: what the route has stored by now is to be removed."""

    def __init__(self, answer: Response):
        super().__init__("answered before")
        self.answer = answer


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump(mode="json", by_alias=True))


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
        raise _in_use()
    return None


def _in_use() -> ApiError:
    return ApiError(
        409, "A request with this Idempotency-Key is still at work.", type="idempotency_error", param=HEADER,
        code="idempotency_key_in_use", headers={"retry-after": "1"},
    )  # fmt: skip


def _success(response: Response) -> bool:
    """Whether an answer can be given again."""
    return response.status_code < 300 and not isinstance(response, StreamingResponse) and hasattr(response, "body")


def _kept(response: Response) -> Answer:
    body: Any = response.body
    return Answer(response.status_code, bytes(body).decode("utf-8"), response.media_type or "application/json")


def _as_response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, media_type=answer.media_type)


def _replay(answer: Answer) -> Response:
    response = _as_response(answer)
    response.headers["idempotent-replayed"] = "true"
    return response
