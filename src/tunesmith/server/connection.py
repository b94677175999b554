"""A connection that does not wait for ever: uvicorn bounds how long one may be idle, and nothing before a request.

The time for a request's headers runs from the connection's beginning, or from the first byte behind the answer before:
what a client still sends of a body that nobody reads any more counts to it. How slowly a body may come is `body`'s to
say, how long a TLS handshake may take (60 seconds) asyncio's.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class Timely(H11Protocol):
    """Closed when a request's headers take longer than `seconds`."""

    seconds: float
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request's time begins."""
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        """It ends with a request's headers, and that of the next begins with its first byte."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._end()
        elif self._timer is None:
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        self._end()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def timely(limit: float) -> type[Timely]:
    """The class of connections with so many seconds for headers."""

    class Limited(Timely):
        seconds = limit

    return Limited
