"""Limits on bodies: how long they may be, and how slowly they may come. Before any of it is parsed.

A body may stand still for `patience` seconds. A client that has used that up gets time back by what it sends, at
`pace` bytes a second: one that sends a byte now and then is given up, and so is one that never comes to an end, for a
body that keeps the pace comes to its limit.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError

_ROOM = 2**16
"""What the frame of a multipart body may take beside its file."""


def too_large(limit: int) -> ApiError:
    """413, with the limit."""
    return ApiError(413, f"Maximum content size limit ({limit}) exceeded.", code="content_too_large")


class BodyLimit:
    """Middleware: 413 for a body longer than its path allows, counted and not believed; 408 for one too slow.

    `paths` gives the limits of the paths that take files, by their end; all others have `usual`.
    """

    def __init__(self, app: ASGIApp, usual: int, paths: dict[str, int], patience: float, pace: float):
        self.app, self.usual, self.paths, self.patience, self.pace = app, usual, paths, patience, pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > limit:
            await too_large(limit).response()(scope, receive, send)
            return
        await self.app(scope, _Counted(receive, limit, self.patience, self.pace), send)

    def _limit(self, path: str) -> int:
        return next((limit + _ROOM for end, limit in self.paths.items() if path.endswith(end)), self.usual)


class _Counted:
    """A `receive` that raises once too much has come, or too little for too long; only waiting for it counts."""

    def __init__(self, receive: Receive, limit: int, patience: float, pace: float):
        self.receive, self.limit, self.patience, self.pace = receive, limit, patience, pace
        self.seen, self.left, self.whole = 0, patience, False

    async def __call__(self) -> Message:
        """The next piece. ApiError 413 or 408."""
        if self.whole:  # nothing more but the client's leaving, for which a stream may wait as long as it likes
            return await self.receive()
        begun = time.monotonic()
        try:
            message = await asyncio.wait_for(self.receive(), self.left)
        except TimeoutError as error:
            raise ApiError(
                408, "The request's body did not arrive in time.", headers={"connection": "close"}
            ) from error
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.seen += size
            self.left = min(self.patience, self.left - (time.monotonic() - begun) + size / self.pace)
            self.whole = not message.get("more_body", False)
            if self.seen > self.limit:
                raise too_large(self.limit)
        return message
