"""Which workers there are, and which of this machine are dead."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from ..core import ids
from ..store.database import Store
from ..store.tables import workers
from .machine import Process

_SEEN_SECONDS = 15.0
"""A worker that was not seen for longer is not counted as alive."""
_FORGOTTEN_SECONDS = 86400.0


@dataclass(frozen=True)
class Known:
    """A worker. Times are seconds since 1970."""

    id: str
    process: Process
    started_at: float
    seen_at: float
    alive: bool
    """By its process where it is on this machine, else by when it was seen."""


class Workers:
    """The workers of a store."""

    def __init__(self, store: Store):
        self._store = store

    def register(self) -> str:
        """This process is a worker; its id."""
        id, me = ids.record_id("worker_"), Process.of()
        with self._store.writing() as connection:
            now = self._store.now(connection)
            connection.execute(delete(workers).where(workers.c.seen_at < now - _FORGOTTEN_SECONDS))
            connection.execute(
                insert(workers).values(
                    id=id, host=me.host, boot=me.boot, pid=me.pid, pid_started=me.started, started_at=now, seen_at=now
                )
            )
        return id

    def seen(self, id: str) -> None:
        """The worker is alive."""
        with self._store.writing() as connection:
            now = self._store.now(connection)
            connection.execute(update(workers).where(workers.c.id == id).values(seen_at=now))

    def leave(self, id: str) -> None:
        """The worker ends."""
        with self._store.writing() as connection:
            connection.execute(delete(workers).where(workers.c.id == id))

    def known(self) -> list[Known]:
        """All of them, newest first."""
        with self._store.reading() as connection:
            now = self._store.now(connection)
            rows = connection.execute(select(workers).order_by(workers.c.started_at.desc())).all()
        found = []
        for row in rows:
            process = Process(row.host, row.boot, row.pid, row.pid_started)
            alive = process.alive() if process.here else row.seen_at > now - _SEEN_SECONDS
            found.append(Known(row.id, process, row.started_at, row.seen_at, alive))
        return found

    def dead_here(self) -> list[str]:
        """Workers of this machine whose process is gone: their jobs need not wait until the lease runs out."""
        return [worker.id for worker in self.known() if worker.process.here and not worker.alive]
