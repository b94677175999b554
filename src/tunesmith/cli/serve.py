"""`tunesmith serve`: the API on this machine."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import err, out, say

if TYPE_CHECKING:
    from ..server.companion import Companion
    from ..server.listen import Place
    from ..server.services import Services


def command(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Another address needs a certificate or a proxy.")] = "127.0.0.1",
    certificate: Annotated[Path | None, typer.Option("--certificate", help="Own TLS certificate (PEM).")] = None,
    private_key: Annotated[Path | None, typer.Option("--private-key", help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy in front of it encrypts what passes.")
    ] = False,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="See that a worker runs beside it.")] = True,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"] | None,
        typer.Option("--precision", help="Number type that answers are computed in; server.yaml's unless given."),
    ] = None,
) -> None:
    """Serve the API that clients of the hosted one speak, at http://127.0.0.1:8000/v1. Prints a first key once."""
    from ..server import listen, settings
    from ..server.services import Services

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    place = listen.Place(host, port, certificate, private_key, behind_proxy)
    known = settings.read()
    if precision is not None:
        known = known.answering_in(precision)
    place.require_allowed(has_keys=True)
    with listen.only_server(known.home):
        services = Services.open(known)
        _serve(services, place, worker=worker)


def _serve(services: Services, place: Place, *, worker: bool) -> None:
    from ..server import listen
    from ..server.app import create_app
    from ..server.companion import Companion

    first = services.keys.first(services.settings.organization)
    place.require_allowed(has_keys=services.keys_valid())
    listening = listen.bound(place)
    name = f"[{place.host}]" if ":" in place.host else place.host
    app = create_app(services.settings, services)
    out.print(f"{place.scheme}://{name}:{listening.getsockname()[1]}/v1", soft_wrap=True)
    if first:
        out.print(f"first API key, shown this once: {first}", soft_wrap=True)
    sys.stdout.flush()
    companion = Companion(services) if worker else None
    _tell(companion)
    number = listen.serve(app, place, listening, header_seconds=services.settings.limits.seconds_for_headers)
    if companion and (pid := companion.end()):
        err.print(f"the worker goes on with its jobs: process {pid}")
    services.close()
    if number == signal.SIGINT:
        raise KeyboardInterrupt


def _tell(companion: Companion | None) -> None:
    if companion is None:
        say("no worker: jobs wait until `tunesmith worker` runs on the same TUNESMITH_HOME")
        return
    adopted = companion.begin()
    say(f"the worker is at work already: process {adopted.process.pid}" if adopted else "a worker is being started")
