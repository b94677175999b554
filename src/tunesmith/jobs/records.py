"""Rows to jobs, and the two writes that everything else is made of: a move, and an event."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from ..core import ids
from ..store.database import Store
from ..store.tables import job_events, jobs
from .model import Event, Failure, Job, Lease, LeaseLostError, Level, NoJobError, Record
from .states import FINAL, Action, IllegalMoveError, target

FREE: dict[str, Any] = {"worker_id": None, "lease_until": None}
"""What a job without a worker holds."""


def job(row: Row[Any]) -> Job:
    """A row of `jobs`."""
    kept = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    error = Failure(**row.error) if row.error else None
    return Job(**kept | {"error": error, "result_files": tuple(row.result_files or ())})


def event(row: Row[Any]) -> Event:
    """A row of `job_events`."""
    return Event(**{name: getattr(row, name) for name in Event.__dataclass_fields__})


def held(connection: Connection, job_id: str, project_id: str | None = None) -> Job:
    """The job, which no one else can change until the transaction ends. NoJobError."""
    query = select(jobs).where(jobs.c.id == job_id).with_for_update()
    if project_id is not None:
        query = query.where(jobs.c.project_id == project_id)
    row = connection.execute(query).first()
    if row is None:
        raise NoJobError(f"there is no job {job_id}")
    return job(row)


def under(connection: Connection, lease: Lease, *, look: bool = False) -> Job:
    """The job of a lease, held unless one only wants to look. LeaseLostError when the lease is no longer the job's."""
    query = select(jobs).where(jobs.c.id == lease.job_id)
    row = connection.execute(query if look else query.with_for_update()).first()
    if row is None or (row.fence, row.worker_id) != (lease.fence, lease.worker_id):
        raise LeaseLostError(f"the lease on job {lease.job_id} is lost", why="another has it, or it was cancelled")
    return job(row)


class Mover:
    """Moves jobs along `states.TRANSITIONS`, and tells the audit log."""

    def __init__(self, store: Store, record: Record):
        self._store, self._record = store, record

    def move(
        self, connection: Connection, held: Job, action: Action, *, actor: str, detail: dict[str, Any] | None = None,
        **values: Any,
    ) -> Job:  # fmt: skip
        """Move a held job on, and set `values`. IllegalMoveError."""
        to = target(held.status, action)
        if to is None:
            raise IllegalMoveError(held.id, held.status, action)
        if to in FINAL:
            values |= {"finished_at": self._store.now(connection), "estimated_finish": None}
        same: ColumnElement[bool] = (jobs.c.id == held.id) & (jobs.c.status == held.status)
        changed = connection.execute(update(jobs).where(same).values(status=to, **values))
        if changed.rowcount != 1:
            raise IllegalMoveError(held.id, "changed by another", action)
        self._record(
            self._store, connection, actor=actor, project_id=held.project_id, action=f"job.{action}", target=held.id,
            detail={"from": held.status, "to": to, "fence": values.get("fence", held.fence)} | (detail or {}),
        )  # fmt: skip
        return job(connection.execute(select(jobs).where(jobs.c.id == held.id)).one())

    def tell(self, connection: Connection, job_id: str, *lines: str, level: Level = "info") -> None:
        """Append messages to a job's story."""
        now = self._store.now(connection)
        rows = [
            {"id": ids.record_id("ftevent-"), "job_id": job_id, "created_at": now, "level": level,
             "type": "message", "message": line} for line in lines
        ]  # fmt: skip
        if rows:
            connection.execute(insert(job_events), rows)
