"""Jobs for who asks: submit, look, cancel, pause, resume. All of it is bound to a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, Table, exists, func, insert, select, update

from ..core import ids
from ..store.database import Also, Store
from ..store.tables import job_checkpoints, job_events, job_metadata, jobs
from . import records
from .model import Checkpoint, Event, Job, NewJob, NoJobError, Page, Record, TooManyJobsError, unrecorded
from .records import FREE, Mover, held
from .states import FINAL, STATUSES, Status

T = TypeVar("T")
_OWN = ("max_queued", "metadata")
"""Fields of a NewJob that are no columns."""


class Queue:
    """The jobs of a store. `record` writes the audit log."""

    def __init__(self, store: Store, record: Record = unrecorded):
        self._store, self._mover = store, Mover(store, record)
        self._record = record

    def submit(self, new: NewJob, also: Also[Job] | None = None) -> Job:
        """Put a job into the queue; its files are validated next. TooManyJobsError."""
        id = ids.record_id("ftjob-")
        with self._store.writing() as connection:
            if new.max_queued is not None:
                open_jobs = (jobs.c.key_id == new.key_id) & jobs.c.status.in_(sorted(set(STATUSES) - FINAL))
                count = connection.execute(select(func.count()).select_from(jobs).where(open_jobs)).scalar_one()
                if count >= new.max_queued:
                    raise TooManyJobsError(
                        f"this key has {count} unfinished jobs, and may have {new.max_queued}",
                        mend="wait until one has ended, or cancel one",
                    )
            now = self._store.now(connection)
            asked = {name: value for name, value in asdict(new).items() if name not in _OWN}
            connection.execute(
                insert(jobs).values(
                    id=id, **asked, metadata=dict(new.metadata) if new.metadata is not None else None,
                    status="validating_files", created_at=now, not_before=now, step=0, fence=0, failures=0,
                )
            )  # fmt: skip
            pairs = [{"job_id": id, "key": key, "value": value} for key, value in (new.metadata or {}).items()]
            if pairs:
                connection.execute(insert(job_metadata), pairs)
            validation = f" and validation file: {new.validation_file}" if new.validation_file else ""
            self._mover.tell(
                connection, id, f"Created fine-tuning job: {id}",
                f"Validating training file: {new.training_file}{validation}",
            )  # fmt: skip
            self._record(
                self._store, connection, actor=f"key:{new.key_id}", project_id=new.project_id, action="job.created",
                target=id,
                detail={"model": new.model, "training_file": new.training_file, "method": new.method["type"]},
            )  # fmt: skip
            made = records.job(connection.execute(select(jobs).where(jobs.c.id == id)).one())
            if also:
                also(connection, made)
            return made

    def get(self, project_id: str, job_id: str) -> Job:
        """A job. NoJobError."""
        query = select(jobs).where(jobs.c.id == job_id, jobs.c.project_id == project_id)
        with self._store.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NoJobError(f"there is no job {job_id}")
        return records.job(row)

    def list(
        self, project_id: str, *, after: str | None = None, limit: int = 20,
        metadata: Mapping[str, str] | None = None, without_metadata: bool = False, status: Status | None = None,
    ) -> Page[Job]:  # fmt: skip
        """Jobs, newest first, behind the job `after`. Those with all pairs of `metadata`, or with none at all."""
        query = select(jobs).where(jobs.c.project_id == project_id)
        if status:
            query = query.where(jobs.c.status == status)
        if without_metadata:
            query = query.where(~exists().where(job_metadata.c.job_id == jobs.c.id))
        for key, value in (metadata or {}).items():
            pair: ColumnElement[bool] = (job_metadata.c.key == key) & (job_metadata.c.value == value)
            query = query.where(jobs.c.id.in_(select(job_metadata.c.job_id).where(pair)))
        found = self._page(query, jobs, jobs.c.project_id == project_id, after, limit)
        return Page([records.job(row) for row in found.data], found.has_more)

    def events(self, project_id: str, job_id: str, *, after: str | None = None, limit: int = 20) -> Page[Event]:
        """A job's story, newest first, behind the event `after`. NoJobError."""
        self.get(project_id, job_id)
        mine = job_events.c.job_id == job_id
        found = self._page(select(job_events).where(mine), job_events, mine, after, limit)
        return Page([records.event(row) for row in found.data], found.has_more)

    def checkpoints(
        self, project_id: str, job_id: str, *, after: str | None = None, limit: int = 10
    ) -> Page[Checkpoint]:
        """A job's checkpoints, newest first, behind the checkpoint `after`. NoJobError."""
        self.get(project_id, job_id)
        mine = job_checkpoints.c.job_id == job_id
        found = self._page(select(job_checkpoints).where(mine), job_checkpoints, mine, after, limit)
        names = Checkpoint.__dataclass_fields__
        return Page([Checkpoint(**{name: getattr(row, name) for name in names}) for row in found.data], found.has_more)

    def cancel(self, project_id: str, job_id: str, *, actor: str) -> Job:
        """End a job. Its worker, if it has one, can write nothing from now on and stops. IllegalMoveError."""
        with self._store.writing() as connection:
            found = held(connection, job_id, project_id)
            self._mover.tell(connection, job_id, "The job has been cancelled")
            return self._mover.move(connection, found, "cancel", actor=actor, fence=found.fence + 1, **FREE)

    def pause(self, project_id: str, job_id: str, *, actor: str) -> Job:
        """Stop a job so that it can go on later; a running one is pausing until its checkpoint is written."""
        with self._store.writing() as connection:
            found = held(connection, job_id, project_id)
            if found.status == "queued":
                self._mover.tell(connection, job_id, "The job has been paused")
            return self._mover.move(connection, found, "pause", actor=actor, estimated_finish=None)

    def resume(self, project_id: str, job_id: str, *, actor: str) -> Job:
        """Put a paused job into the queue again. IllegalMoveError."""
        with self._store.writing() as connection:
            found = held(connection, job_id, project_id)
            now = self._store.now(connection)
            self._mover.tell(connection, job_id, "The job has been resumed, moving it to queued state")
            return self._mover.move(connection, found, "resume", actor=actor, queued_at=now, not_before=now)

    def prioritise(self, project_id: str, job_id: str, priority: int, *, actor: str) -> Job:
        """Give a job another priority: higher ones begin first. NoJobError."""
        with self._store.writing() as connection:
            found = held(connection, job_id, project_id)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(priority=priority))
            self._record(
                self._store, connection, actor=actor, project_id=project_id, action="job.priority", target=job_id,
                detail={"from": found.priority, "to": priority},
            )  # fmt: skip
            return records.job(connection.execute(select(jobs).where(jobs.c.id == job_id)).one())

    def counts(self, project_id: str | None = None) -> dict[Status, int]:
        """Jobs by status, of a project or of all; statuses without any are not there."""
        query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
        if project_id:
            query = query.where(jobs.c.project_id == project_id)
        with self._store.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def _page(
        self, query: Select[Any], table: Table, mine: ColumnElement[bool], after: str | None, limit: int
    ) -> Page[Any]:
        with self._store.reading() as connection:
            if after is not None:
                place = connection.execute(select(table.c.number).where(mine, table.c.id == after)).scalar()
                if place is None:
                    return Page([], False)
                query = query.where(table.c.number < place)
            rows = connection.execute(query.order_by(table.c.number.desc()).limit(limit + 1)).all()
        return Page(list(rows[:limit]), len(rows) > limit)
