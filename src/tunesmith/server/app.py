"""The server's app, put together. Loads no torch: models are loaded when the first question comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from .. import __version__
from ..core.errors import TunesmithError
from . import errors, openapi
from .body import BodyLimit
from .hosts import Hosts
from .routes import (
    chat,
    completions,
    embeddings,
    feedback,
    files,
    fine_tuning,
    health,
    keys,
    models,
    responses,
    tunesmith,
    uploads,
)
from .routing import Routes, require_scopes
from .services import Services
from .settings import Settings
from .trace import Trace

ROUTES: tuple[Routes, ...] = (
    health.routes,
    files.routes,
    uploads.routes,
    fine_tuning.routes,
    models.routes,
    tunesmith.routes,
    chat.routes,
    completions.routes,
    embeddings.routes,
    responses.routes,
    feedback.routes,
    keys.routes,
)
"""All routers of the server."""

_ABOUT = "Fine-tuning and serving of language models. Existing clients of the hosted API need a base URL and a key."


_TIDY_SECONDS = 60.0
_SWEPT_EVERY = 24 * 60
"""So many times it is tidied until files without a record are looked for again."""

log = logging.getLogger("tunesmith.server")


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """The app over its services, which are opened from the settings where none are given.

    Raises TunesmithError where a route declares no scope.
    """
    services = services or Services.open(settings)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        await _begin(services)
        tidying = asyncio.create_task(_tidy(services))
        yield
        tidying.cancel()

    app = FastAPI(
        title="Tunesmith", version=__version__, description=_ABOUT, lifespan=living, redirect_slashes=False,
        docs_url=None, redoc_url=None, openapi_url=None,
    )  # fmt: skip
    app.state.services, app.state.meters = services, services.meters
    for routes in ROUTES:
        app.router.routes.extend(routes.routes)
    require_scopes(app)
    errors.install(app)
    openapi.install(app)
    limits = settings.limits
    large = {"/v1/files": limits.file_bytes, "/parts": limits.part_bytes}
    app.add_middleware(
        BodyLimit, usual=limits.body_bytes, paths=large, patience=limits.seconds_between_pieces,
        pace=limits.least_bytes_per_second,
    )  # fmt: skip
    app.add_middleware(Hosts, names=settings.hosts, origins=settings.origins)
    app.add_middleware(Trace, organization=settings.organization, observe=services.meters.observe)
    return app


async def _begin(services: Services) -> None:
    """Clear away what a killed server left; one that cannot write, for the disk is full, answers all the same."""
    try:
        await run_in_threadpool(services.begin)
    except (TunesmithError, OSError):
        log.exception("cannot clear away what an earlier server left")


async def _tidy(services: Services) -> None:
    """Remove what has expired, now and every minute; what no record names, now and every day."""
    for turn in count():
        try:
            await run_in_threadpool(services.tidy)
            if turn % _SWEPT_EVERY == 0:
                await run_in_threadpool(services.sweep)
        except (TunesmithError, OSError):
            log.exception("cannot remove what has expired; trying again")
        await asyncio.sleep(_TIDY_SECONDS)
