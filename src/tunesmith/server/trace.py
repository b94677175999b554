"""Around every request: an id, the time that it took, a count, and an envelope for what nobody expected."""

from __future__ import annotations

import errno
import logging
import secrets
import time
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.errors import OutputError
from ..store.database import GoneError
from .errors import ApiError

log = logging.getLogger("tunesmith.server")

VERSION = "2020-10-01"
"""`openai-version`, as the hosted API sends it."""

Observe = Callable[[str, str, int, float], None]
"""Takes a route's path, a method, a status and seconds."""


class Trace:
    """Middleware: the outermost."""

    def __init__(self, app: ASGIApp, organization: str, observe: Observe):
        self.app, self.organization, self.observe = app, organization, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, start = f"req_{secrets.token_hex(16)}", time.monotonic()
        status = 0
        scope.setdefault("state", {})["request_id"] = request_id

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(request_id, start)]
            await send(message)

        try:
            await self.app(scope, receive, told)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            if status:  # the answer has begun: all that is left is to end the connection
                log.exception("%s failed while it was answered", request_id)
                raise
            await _expected(error, request_id).response()(scope, receive, told)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.observe(path, scope["method"], status, time.monotonic() - start)

    def _headers(self, request_id: str, start: float) -> list[tuple[bytes, bytes]]:
        told = {
            "x-request-id": request_id, "openai-version": VERSION, "openai-organization": self.organization,
            "openai-processing-ms": str(round(1000 * (time.monotonic() - start))),
            "x-content-type-options": "nosniff", "cache-control": "no-store",
        }  # fmt: skip
        return [(name.encode(), value.encode("latin-1")) for name, value in told.items()]


def _expected(error: Exception, request_id: str) -> ApiError:
    """What the client is told of an error that no route expected. The cause is in the log alone."""
    if isinstance(error, ApiError):
        return error
    log.error("%s failed", request_id, exc_info=error)
    if isinstance(error, GoneError):
        return ApiError(503, "The server cannot reach its database.", code="unavailable", headers={"retry-after": "2"})
    if isinstance(error, OutputError) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return ApiError(503, "The server has no room to store this.", code="no_room", headers={"retry-after": "60"})
    return ApiError(
        500, f"The server had an error while processing your request. Its log tells more under {request_id}."
    )  # fmt: skip
