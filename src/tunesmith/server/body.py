"""Limits on bodies: how long they may be, and how long they may stand still. Before any of it is parsed."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError

_ROOM = 2**16
"""What the frame of a multipart body may take beside its file."""


def too_large(limit: int) -> ApiError:
    """413, with the limit."""
    return ApiError(413, f"Maximum content size limit ({limit}) exceeded.", code="content_too_large")


class BodyLimit:
    """Middleware: 413 for a body longer than its path allows, counted and not believed; 408 for one that stalls.

    `paths` gives the limits of the paths that take files, by their end; all others have `usual`.
    """

    def __init__(self, app: ASGIApp, usual: int, paths: dict[str, int], patience: float):
        self.app, self.usual, self.paths, self.patience = app, usual, paths, patience

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
        await self.app(scope, _Counted(receive, limit, self.patience), send)

    def _limit(self, path: str) -> int:
        return next((limit + _ROOM for end, limit in self.paths.items() if path.endswith(end)), self.usual)


class _Counted:
    """A `receive` that raises once too much has come, or nothing for too long."""

    def __init__(self, receive: Receive, limit: int, patience: float):
        self.receive, self.limit, self.patience = receive, limit, patience
        self.seen, self.whole = 0, False

    async def __call__(self) -> Message:
        """The next piece. ApiError 413 or 408."""
        if self.whole:  # nothing more but the client's leaving, for which a stream may wait as long as it likes
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), self.patience)
        except TimeoutError as error:
            raise ApiError(
                408, "The request's body did not arrive in time.", headers={"connection": "close"}
            ) from error
        if message["type"] == "http.request":
            self.seen += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            if self.seen > self.limit:
                raise too_large(self.limit)
        return message
