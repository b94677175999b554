"""Is it up, can it work, what has it done, what does it offer."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request
from starlette.responses import Response

from ... import __version__
from ..access import Serving
from ..protocol.common import Reply
from ..routing import Routes

routes = Routes(tags=["health"])
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Health(Reply):
    """The server answers."""

    status: Literal["ok"] = "ok"
    version: str = __version__


class Ready(Reply):
    """The server can work. `worker` tells whether one is alive to take jobs."""

    status: Literal["ready"] = "ready"
    worker: bool


@routes.get("/health", scope="open")
def health() -> Health:
    """Whether the process answers; asks nothing of the database."""
    return Health()


@routes.get("/ready", scope="open")
def ready(services: Serving) -> Ready:
    """Whether the database answers, and whether a worker is alive. 503 without a database."""
    return Ready(worker=services.worker_alive())


@routes.get("/metrics", scope="read", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(services: Serving) -> Response:
    """Counters in Prometheus' text format; nobody's names are among them."""
    for status, count in services.queue.counts().items():
        services.meters.jobs.labels(status).set(count)
    return Response(services.meters.text(), media_type=_PROMETHEUS)


@routes.get("/openapi.json", scope="open")
def description(request: Request) -> dict[str, Any]:
    """This description."""
    return dict(request.app.openapi())
