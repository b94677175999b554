"""`tunesmith worker`: trains the service's jobs."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from .console import say
from .stores import Database, Storage, opened


def command(
    slots: Annotated[int, typer.Option("--slots", min=1, help="Jobs that are trained at a time.")] = 1,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="End when no job waits or runs.")] = False,
    lease: Annotated[
        float, typer.Option("--lease", min=2, help="Seconds after which another worker may take a silent one's jobs.")
    ] = 60.0,
    database: Database = None,
    storage: Storage = None,
) -> None:
    """Train jobs of the service: on this machine or another, with the same database and storage.

    SIGTERM or Ctrl-C: running jobs write a checkpoint and go back into the queue.
    """
    from ..governance import audit
    from ..jobs.leases import Leases
    from ..jobs.runners import LocalRunner
    from ..jobs.worker import Worker
    from ..pipelines.hosted import Hosted
    from ..pipelines.hosted.handler import command as training

    store = opened(database, storage)
    worker = Worker(
        store, Leases(store, audit.record, seconds=lease), LocalRunner(training, patience=lease), Hosted(store),
        slots=slots, say=say,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    say(f"working on {store.folder} with {slots} at a time")
    worker.run(until_empty=until_empty)
