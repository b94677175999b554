"""Who calls, and whether they may: API keys, scopes, rates."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from ..governance.keys import BadKeyError, Identity
from .errors import ApiError
from .services import Services

_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY). `tunesmith keys create` makes one."
)


def serving(request: Request) -> Services:
    """The services of the app that a request came to."""
    return cast(Services, request.app.state.services)


async def _serving(request: Request) -> Services:  # FastAPI gives what is not async a thread
    return serving(request)


async def _caller(request: Request) -> Identity:
    return cast(Identity, request.state.caller)


Serving = Annotated[Services, Depends(_serving)]
Caller = Annotated[Identity, Depends(_caller)]
"""Who was admitted."""


async def admit(request: Request, scopes: frozenset[str]) -> Identity:
    """The caller, who has one of the scopes and is within its rate; ApiError 401, 403 or 429.

    The identity is kept on the request: routes take it by a parameter `who: Caller`.
    """
    services = serving(request)
    who = await run_in_threadpool(_known, services, request.headers.get("authorization"))
    request.state.caller, request.state.scopes = who, scopes
    if not scopes & who.scopes:
        needed = " or ".join(sorted(scopes))
        raise ApiError(
            403, f"You have insufficient permissions for this operation. Missing scopes: {needed}.",
            code="missing_scope",
        )  # fmt: skip
    services.rates.request(who.key_id)
    return who


def _known(services: Services, authorization: str | None) -> Identity:
    scheme, _, secret = (authorization or "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise ApiError(401, _NO_KEY, headers={"www-authenticate": "Bearer"})
    try:
        return services.keys.authenticate(secret)
    except BadKeyError as error:
        raise ApiError(
            401, f"Incorrect API key provided: {_masked(secret)}.", code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        ) from error  # fmt: skip


def _masked(secret: str) -> str:
    """Enough to recognise a key by, and no more."""
    printable = "".join(letter for letter in secret if letter.isascii() and letter.isprintable())
    return f"{printable[:3]}***{printable[-4:]}" if len(printable) > 16 else "***"
