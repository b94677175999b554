"""From settings to a socket that answers: where it may listen, one server for a home, how it stops.

A server on 127.0.0.1 is reached by this machine alone. Any other address is refused unless what passes there is
encrypted: by a certificate of its own, or by a proxy in front, which the caller has to say.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

import uvicorn
from fastapi import FastAPI

from ..core import files
from ..core.errors import ConflictError, MissingError, NotAllowedError, UsageError
from .connection import timely

_GRACE_SECONDS = 10
"""How long answers that have begun may take once the server shall stop."""
_BACKLOG = 2048


@dataclass(frozen=True)
class Place:
    """Where to listen, and what protects it."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    private_key: Path | None = None
    behind_proxy: bool = False

    @property
    def loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def scheme(self) -> str:
        """https with a certificate."""
        return "https" if self.certificate else "http"

    def require_allowed(self, *, has_keys: bool) -> None:
        """NotAllowedError for an address that others reach, without encryption or keys; UsageError, MissingError."""
        if (self.certificate is None) != (self.private_key is None):
            raise UsageError("--certificate and --private-key belong together")
        for file in (self.certificate, self.private_key):
            if file is not None and not file.is_file():
                raise MissingError(f"{file} is not there", mend="name a PEM file")
        if self.loopback:
            return
        if not (self.certificate or self.behind_proxy):
            raise NotAllowedError(
                f"{self.host} is reached by other machines, and nothing would be encrypted",
                mend="add --certificate FILE --private-key FILE, or --behind-proxy where a proxy does it",
            )
        if not has_keys:
            raise NotAllowedError(f"{self.host} is reached by other machines, and there is no valid API key",
                                  mend="tunesmith keys create")  # fmt: skip


@contextmanager
def only_server(home: Path) -> Iterator[None]:
    """Hold the home's lock. ConflictError when another server has it; a killed one leaves none."""
    path = files.make_folder(home) / "serve.lock"
    with files.writing(path):
        file: TextIO = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"another server serves {home}", mend="stop it, or set TUNESMITH_HOME to another folder"
            ) from error
        yield


def bound(place: Place) -> socket.socket:
    """A socket on the place. ConflictError for a port that is taken, NotAllowedError, MissingError."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((place.host, place.port))
        made.listen(_BACKLOG)
    except PermissionError as error:
        made.close()
        raise NotAllowedError(
            f"port {place.port} is not allowed", why=str(error), mend="choose one from 1024"
        ) from error
    except OSError as error:
        made.close()
        if isinstance(error, socket.gaierror) or error.errno == 99:
            raise MissingError(f"this machine has no address '{place.host}'", why=str(error)) from error
        raise ConflictError(
            f"cannot listen on {place.host}:{place.port}",
            why=error.strerror or str(error),
            mend="choose another --port",
        ) from error
    return made


def serve(app: FastAPI, place: Place, listening: socket.socket, *, header_seconds: float) -> int:
    """Answer until a signal comes; its number. A connection may take `header_seconds` for a request's headers."""
    config = uvicorn.Config(
        app, http=timely(header_seconds), log_config=None, access_log=False,
        server_header=False, date_header=True, proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS, lifespan="on",
        ssl_certfile=place.certificate, ssl_keyfile=place.private_key,
    )  # fmt: skip
    server = _Server(config)
    asyncio.run(server.serve(sockets=[listening]))
    return server.stopped_by


class _Server(uvicorn.Server):
    """Uvicorn's, which after a signal ends like any other program and does not kill itself by it."""

    stopped_by = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals ask the server to stop; a second one stops it at once."""
        before = {number: signal.signal(number, self._asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = self.stopped_by or number
        self.handle_exit(number, frame)
