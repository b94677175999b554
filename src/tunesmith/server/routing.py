"""How a route is added: with the scope it needs and the failures it may answer with.

    routes = Routes(prefix="/v1", tags=["files"])

    @routes.get("/files/{file_id}", scope="read", errors=(404,))
    def retrieve(file_id: FileId, who: Caller, services: Serving) -> File: ...

Before a route's own code, and before any body is read, its caller is known, has the scope and is within its rate.
An app with a route that declares no scope does not start (`require_scopes`). `scope="open"` is for health alone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, get_args

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute

from ..core.errors import TunesmithError
from .access import admit
from .errors import Envelope, invalid
from .idempotency import once

Scope = Literal["read", "infer", "train", "admin", "read|infer", "open"]
SCOPE = "x-tunesmith-scope"
_STATES = {
    400: "The request is wrong",
    401: "No valid API key",
    403: "The key, or the page that asks, may not do this",
    404: "There is no such object",
    408: "The body did not arrive in time",
    409: "It conflicts with what is there",
    413: "The body is too large",
    421: "The Host is not this server's",
    429: "Too many requests",
    500: "A fault of the server",
    503: "The server cannot do this now",
}
_ALWAYS = (403, 421, 500, 503)
"""What each route may answer: the Host and Origin checks, faults, the database gone."""


class GuardedRoute(APIRoute):
    """A route that admits its caller first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own handler behind the guard."""
        own = super().get_route_handler()
        scope = (self.openapi_extra or {}).get(SCOPE)

        async def handle(request: Request) -> Response:
            if scope is None:
                raise TunesmithError(f"the route {self.path} declares no scope")
            if scope == "open":
                return await own(request)
            if b"%00" in request.scope["query_string"] or "\x00" in request.scope["path"]:
                raise invalid("The URL holds a NUL character.")
            who = await admit(request, frozenset(scope.split("|")))
            response = await once(request, own)
            response.headers.update(request.app.state.services.rates.headers(who.key_id))
            return response

        return handle


class Routes(APIRouter):
    """A router whose routes declare a scope."""

    def __init__(self, prefix: str = "", tags: Sequence[str] = ()):
        super().__init__(prefix=prefix, tags=list(tags), route_class=GuardedRoute, redirect_slashes=False)

    def get(self, path: str, *, scope: Scope, errors: Sequence[int] = (), **options: Any) -> Callable[..., Any]:  # type: ignore[override]
        """A GET route."""
        return super().get(path, **_declared(scope, errors, options))

    def post(self, path: str, *, scope: Scope, errors: Sequence[int] = (), **options: Any) -> Callable[..., Any]:  # type: ignore[override]
        """A POST route; Idempotency-Key is honoured, except where the answer is a stream."""
        return super().post(path, **_declared(scope, (408, 409, 413, *errors), options))

    def delete(self, path: str, *, scope: Scope, errors: Sequence[int] = (), **options: Any) -> Callable[..., Any]:  # type: ignore[override]
        """A DELETE route."""
        return super().delete(path, **_declared(scope, errors, options))


def _declared(scope: Scope, errors: Sequence[int], options: dict[str, Any]) -> dict[str, Any]:
    """The options of a route with its scope and its failures; the scope travels with the route into any app."""
    known = _ALWAYS if scope == "open" else (*_ALWAYS, 400, 401, 429)
    failures = {status: {"model": Envelope, "description": _STATES[status]} for status in sorted({*known, *errors})}
    extra = {SCOPE: scope} | options.pop("openapi_extra", {})
    if scope != "open":
        extra = {"security": [{"key": []}]} | extra
    return {"responses": failures | options.pop("responses", {}), "openapi_extra": extra} | options


def require_scopes(app: FastAPI) -> None:
    """TunesmithError for a route without a scope; the only ones excused are the app's own description of itself."""
    for route in app.routes:
        if scope_of(route) not in get_args(Scope):
            raise TunesmithError(
                f"the route {getattr(route, 'path', route)} declares no scope",
                why="a route without one would be open to anybody", mend="add it through server.routing.Routes",
            )  # fmt: skip


def scope_of(route: BaseRoute) -> str | None:
    """The scope that a route declares."""
    guarded = isinstance(route, GuardedRoute)
    return (route.openapi_extra or {}).get(SCOPE) if guarded else None  # type: ignore[attr-defined]
