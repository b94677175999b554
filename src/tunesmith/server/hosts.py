"""Who may be meant, and from where: the Host and Origin checks that keep a browser's other pages out.

A page of another site can make a browser send requests to 127.0.0.1, and by rebinding a name even read the answers
(CVE-2025-62593). Such a request carries a Host that is not ours, or an Origin: both are held against lists.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import ApiError

LOCAL = ("127.0.0.1", "localhost", "[::1]")


def split(host: str) -> str:
    """The name of a Host header without its port, in small letters; `[::1]:8000` gives `[::1]`."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[: host.find("]") + 1]
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


class Hosts:
    """Middleware: 421 for a Host that is not ours, 403 for an Origin that is not allowed.

    `names` may hold `*`, for a server whose proxy has checked it. Programs send no Origin; a browser always does
    where a page of another site asks.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], origins: Iterable[str] = ()):
        self.app = app
        self.names = {name.lower() for name in (*LOCAL, *names)}
        self.origins = {origin.lower().rstrip("/") for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through what may pass."""
        if scope["type"] == "http" and (error := self.judge(scope["headers"])):
            await error.response()(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def judge(self, headers: Iterable[tuple[bytes, bytes]]) -> ApiError | None:
        """The refusal, or None."""
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        if len(hosts) != 1 or not self._ours(hosts[0].decode("latin-1")):
            return ApiError(
                421, "This server does not answer to that Host.", code="host_not_allowed",
                headers={"connection": "close"},
            )  # fmt: skip
        host = hosts[0].decode("latin-1").strip().lower()
        if any(not self._allowed(origin.decode("latin-1"), host) for origin in origins):
            return ApiError(403, "Requests from pages of this origin are not allowed.", code="origin_not_allowed")
        return None

    def _ours(self, host: str) -> bool:
        return "*" in self.names or split(host) in self.names

    def _allowed(self, origin: str, host: str) -> bool:
        """A page that this server sent itself (of the same name and port), or one of an origin that was named."""
        origin = origin.strip().lower()
        scheme, _, rest = origin.partition("://")
        return origin in self.origins or (scheme in ("http", "https") and rest == host)
