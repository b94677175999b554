"""Jobs for who works: claim one, keep the lease alive, write under it, end it.

A lease is a row's `worker_id`, `fence` and `lease_until`. `fence` counts the claims: every write under a lease first
holds the row and compares worker and fence, so a worker that lost its lease can change nothing, however late it wakes.
A lease that ran out is still its holder's until another takes it: nobody gains by work thrown away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from ..core import ids
from ..store.blobs import Blob
from ..store.database import Store
from ..store.tables import api_keys, files, job_checkpoints, job_events, jobs, models, turns
from . import naming, records
from .model import Failure, Job, Lease, Level, Metric, Outcome, Record, Snapshot, Work, unrecorded
from .records import FREE, Mover, under

RETRIES = 5
"""Ends of a training that nobody wished for, without progress between them, before its job fails."""
_BACKOFF = 2.0
"""Seconds before the second try; each further one waits four times as long."""
KEPT_CHECKPOINTS = 3
"""Checkpoints that can be asked, the final one among them."""


class Leases:
    """The working side of a store's jobs. `record` writes the audit log."""

    def __init__(self, store: Store, record: Record = unrecorded, *, seconds: float = 60.0):
        self._store, self._mover, self.seconds = store, Mover(store, record), seconds

    # taking

    def claim(self, worker_id: str, work: Work) -> tuple[Lease, Job] | None:
        """The next job to validate or to train, leased; None where none waits. Expired leases are `sweep`'s."""
        with self._store.writing() as connection:
            self._store.hold(connection, "claim")
            now = self._store.now(connection)
            number = _next_unvalidated(connection, now) if work == "validate" else _next_queued(connection, now)
            if number is None:
                return None
            row = connection.execute(select(jobs).where(jobs.c.number == number).with_for_update()).one()
            found = records.job(row)
            values = {"worker_id": worker_id, "lease_until": now + self.seconds, "fence": found.fence + 1}
            if work == "validate":
                if found.status != "validating_files" or found.worker_id is not None:
                    return None
                connection.execute(update(jobs).where(jobs.c.number == number).values(**values))
            else:
                if found.status != "queued":
                    return None
                found = self._begin(connection, found, now, worker_id, values)
            lease = Lease(found.id, row.fence + 1, worker_id, work)
            return lease, records.job(connection.execute(select(jobs).where(jobs.c.number == number)).one())

    def _begin(self, connection: Connection, found: Job, now: float, worker_id: str, values: dict[str, Any]) -> Job:
        if found.started_at is None:
            values["started_at"] = now
            self._mover.tell(connection, found.id, "Fine-tuning job started")
        changed = connection.execute(update(turns).where(turns.c.key_id == found.key_id).values(served_at=now))
        if not changed.rowcount:
            connection.execute(insert(turns).values(key_id=found.key_id, served_at=now))
        return self._mover.move(connection, found, "begin", actor=f"worker:{worker_id}", **values)

    def sweep(self, dead: Collection[str] = ()) -> int:
        """Take jobs from leases that ran out, and from workers known to be dead; how many."""
        with self._store.reading() as connection:
            now = self._store.now(connection)
            lost = or_(jobs.c.lease_until < now, jobs.c.worker_id.in_(sorted(dead)))
            leased = jobs.c.lease_until > 0  # by which the index finds them: all others are the whole history
            found = connection.execute(select(jobs.c.id).where(leased, lost)).scalars().all()
        return sum(self._take_away(job_id, dead) for job_id in found)

    def _take_away(self, job_id: str, dead: Collection[str]) -> bool:
        with self._store.writing() as connection:
            now = self._store.now(connection)
            row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one()
            if row.worker_id is None or (row.lease_until >= now and row.worker_id not in dead):
                return False
            found = records.job(row)
            if found.status == "validating_files":
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(**FREE))
            elif found.status == "pausing":
                self._stopped(connection, found, f"worker:{found.worker_id}")
            else:
                self._mover.tell(
                    connection, job_id, "The worker was lost; the job goes on from its last checkpoint", level="warn"
                )
                self._mover.move(
                    connection, found, "requeue", actor="system", detail={"lost": found.worker_id}, queued_at=now,
                    estimated_finish=None, **FREE,
                )  # fmt: skip
            return True

    def unfinished(self) -> int:
        """Jobs that wait for a worker or have one; paused ones wait for their owner."""
        waiting = jobs.c.status.in_(("validating_files", "queued", "running", "pausing"))
        with self._store.reading() as connection:
            return connection.execute(select(func.count()).select_from(jobs).where(waiting)).scalar_one()

    # keeping

    def beat(self, lease: Lease) -> Job:
        """Keep the lease for another term; the job as it stands. LeaseLostError."""
        with self._store.writing() as connection:
            found = under(connection, lease)
            until = self._store.now(connection) + self.seconds
            connection.execute(update(jobs).where(jobs.c.id == lease.job_id).values(lease_until=until))
            return found

    def look(self, lease: Lease) -> Job:
        """The job as it stands, without a write. LeaseLostError."""
        with self._store.reading() as connection:
            return under(connection, lease, look=True)

    # writing

    def tell(self, lease: Lease, *lines: str, level: Level = "info") -> None:
        """Messages into the job's story. LeaseLostError."""
        with self._store.writing() as connection:
            under(connection, lease)
            self._mover.tell(connection, lease.job_id, *lines, level=level)

    def progress(
        self, lease: Lease, steps: Sequence[Metric], total_steps: int | None = None, seconds_left: float | None = None
    ) -> None:
        """Trained steps into the job's story, each once, however often it was trained. LeaseLostError."""
        with self._store.writing() as connection:
            found = under(connection, lease)
            fresh = [metric for metric in steps if metric.step > found.step]
            if not fresh:
                return
            now = self._store.now(connection)
            connection.execute(
                insert(job_events),
                [
                    {"id": ids.record_id("ftevent-"), "job_id": lease.job_id, "created_at": now, "level": "info",
                     "type": "metrics", "message": m.message, "data": m.data, "step": m.step} for m in fresh
                ],
            )  # fmt: skip
            values = {
                "step": fresh[-1].step, "total_steps": total_steps or found.total_steps, "failures": 0,
                "estimated_finish": now + seconds_left if seconds_left is not None else found.estimated_finish,
                "lease_until": now + self.seconds,
            }  # fmt: skip
            connection.execute(update(jobs).where(jobs.c.id == lease.job_id).values(**values))

    def snapshot(self, lease: Lease, run: str, taken: Snapshot) -> str:
        """A checkpoint that can be asked as a model from now on; its name. LeaseLostError."""
        with self._store.writing() as connection:
            return self._checkpoint(connection, under(connection, lease), run, taken, naming.checkpoint(taken.step))

    # ending

    def accept(self, lease: Lease, hyperparameters: dict[str, Any], *, warnings: Sequence[str] = ()) -> Job:
        """The files are fine: the job may be trained, with these values for what was "auto". LeaseLostError."""
        with self._store.writing() as connection:
            found = under(connection, lease)
            self._mover.tell(connection, lease.job_id, *warnings, level="warn")
            self._mover.tell(connection, lease.job_id, "Files validated, moving job to queued state")
            now = self._store.now(connection)
            return self._mover.move(
                connection, found, "accept", actor=f"worker:{lease.worker_id}", queued_at=now, not_before=now,
                hyperparameters=hyperparameters, **FREE,
            )  # fmt: skip

    def fail(self, lease: Lease, failure: Failure) -> Job:
        """The job has failed, for good. LeaseLostError."""
        with self._store.writing() as connection:
            return self._failed(connection, under(connection, lease), lease, failure)

    def retry(self, lease: Lease, failure: Failure) -> Job:
        """It went wrong and may go better: again after a pause, until it went wrong RETRIES times. LeaseLostError."""
        with self._store.writing() as connection:
            found = under(connection, lease)
            if found.status == "pausing":
                return self._stopped(connection, found, f"worker:{lease.worker_id}")
            if found.failures + 1 >= RETRIES:
                return self._failed(connection, found, lease, failure)
            pause = _BACKOFF * 4**found.failures
            self._mover.tell(
                connection, found.id, f"{failure.message}; trying again in {pause:.0f} seconds", level="warn"
            )
            not_before = self._store.now(connection) + pause
            if found.status == "validating_files":
                values = {"failures": found.failures + 1, "not_before": not_before, **FREE}
                connection.execute(update(jobs).where(jobs.c.id == found.id).values(**values))
                return found
            return self._mover.move(
                connection, found, "requeue", actor=f"worker:{lease.worker_id}", detail={"why": failure.code},
                failures=found.failures + 1, not_before=not_before, queued_at=not_before, estimated_finish=None, **FREE,
            )  # fmt: skip

    def give_back(self, lease: Lease) -> Job:
        """The training stopped with a checkpoint: the job is paused where that was asked for, and waits otherwise."""
        with self._store.writing() as connection:
            found = under(connection, lease)
            if found.status == "pausing":
                return self._stopped(connection, found, f"worker:{lease.worker_id}")
            if found.status == "validating_files":
                connection.execute(update(jobs).where(jobs.c.id == found.id).values(**FREE))
                return found
            now = self._store.now(connection)
            return self._mover.move(
                connection, found, "requeue", actor=f"worker:{lease.worker_id}", queued_at=now, estimated_finish=None,
                **FREE,
            )  # fmt: skip

    def succeed(self, lease: Lease, outcome: Outcome, results: Blob | None = None) -> Job:
        """The job's one effect: model, checkpoints, result file and last words, all together. LeaseLostError."""
        with self._store.writing() as connection:
            found = under(connection, lease)
            for taken in outcome.earlier:
                self._checkpoint(connection, found, outcome.run, taken, naming.checkpoint(taken.step))
            name = self._checkpoint(connection, found, outcome.run, outcome.final, "", outcome.verdict)
            listed = [_result_file(self._store, connection, found, results)] if results else []
            self._mover.tell(
                connection, found.id, f"New fine-tuned model created: {name}", "The job has successfully completed"
            )
            return self._mover.move(
                connection, found, "succeed", actor=f"worker:{lease.worker_id}", detail={"model": name},
                fine_tuned_model=name, result_files=listed, trained_tokens=outcome.trained_tokens,
                verdict=outcome.verdict, **FREE,
            )  # fmt: skip

    # parts

    def _stopped(self, connection: Connection, found: Job, actor: str) -> Job:
        self._mover.tell(connection, found.id, "The job has been paused")
        return self._mover.move(connection, found, "stop", actor=actor, estimated_finish=None, **FREE)

    def _failed(self, connection: Connection, found: Job, lease: Lease, failure: Failure) -> Job:
        self._mover.tell(connection, found.id, failure.message, level="error")
        error = {"code": failure.code, "message": failure.message, "param": failure.param}
        return self._mover.move(
            connection, found, "fail", actor=f"worker:{lease.worker_id}", detail={"code": failure.code}, error=error,
            **FREE,
        )  # fmt: skip

    def _checkpoint(
        self, connection: Connection, found: Job, run: str, taken: Snapshot, ending: str,
        verdict: dict[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """A model and its checkpoint; the step's checkpoint of an earlier time, if there is one, gives way."""
        now = self._store.now(connection)
        same: ColumnElement[bool] = and_(
            job_checkpoints.c.job_id == found.id, job_checkpoints.c.step_number == taken.step
        )
        known = connection.execute(select(job_checkpoints.c.model).where(same)).scalar()
        if known is not None and ending:
            connection.execute(update(models).where(models.c.name == known).values(run=run, weights=taken.weights))
            return str(known)
        name = naming.tuned(found.model, found.organization, found.suffix) + ending
        if known is not None:
            connection.execute(job_checkpoints.delete().where(same))
            connection.execute(models.delete().where(models.c.name == known))
        connection.execute(
            insert(models).values(
                name=name, project_id=found.project_id, job_id=found.id, kind="checkpoint" if ending else "final",
                step=taken.step, base=taken.base, run=run, weights=taken.weights, created_at=now, verdict=verdict,
            )
        )  # fmt: skip
        connection.execute(
            insert(job_checkpoints).values(
                id=ids.record_id("ftckpt_"), job_id=found.id, created_at=now, step_number=taken.step, model=name,
                metrics=taken.metrics,
            )
        )  # fmt: skip
        if ending:
            told = f"Checkpoint created at step {taken.step} with Snapshot ID: {name}"
            self._mover.tell(connection, found.id, told)
        return name


def _next_unvalidated(connection: Connection, now: float) -> int | None:
    """The oldest job whose files nobody validates."""
    waiting = (jobs.c.status == "validating_files") & (jobs.c.worker_id.is_(None)) & (jobs.c.not_before <= now)
    oldest = select(jobs.c.number).where(waiting).order_by(jobs.c.number).limit(1)
    found: int | None = connection.execute(oldest).scalar()
    return found


def _next_queued(connection: Connection, now: float) -> int | None:
    """The next job to train: the highest priority first; among equals the key with the fewest running jobs, of these
    the one that waited longest for its turn; of a key the oldest job. Keys at their limit are passed over."""
    waiting = (jobs.c.status == "queued") & (jobs.c.not_before <= now)
    mine = select(jobs.c.priority).where(waiting, jobs.c.key_id == api_keys.c.id)
    highest = mine.order_by(jobs.c.priority.desc()).limit(1).scalar_subquery()
    # One look into the index for each key: to group all waiting jobs would read them all.
    heads = [row for row in connection.execute(select(api_keys.c.id, highest)) if row[1] is not None]
    if not heads:
        return None
    busy = select(jobs.c.key_id, func.count()).where(jobs.c.status.in_(("running", "pausing"))).group_by(jobs.c.key_id)
    running = {row[0]: row[1] for row in connection.execute(busy)}
    key_ids = [row[0] for row in heads]
    asked = select(api_keys.c.id, api_keys.c.max_running).where(api_keys.c.id.in_(key_ids))
    limits = {row[0]: row[1] for row in connection.execute(asked)}
    served = {row[0]: row[1] for row in connection.execute(select(turns.c.key_id, turns.c.served_at))}
    free = [
        (-priority, running.get(key, 0), served.get(key, 0.0), key)
        for key, priority in heads
        if limits.get(key) is None or running.get(key, 0) < limits[key]
    ]
    if not free:
        return None
    below, _, _, key = min(free)
    oldest = select(jobs.c.number).where(waiting, jobs.c.key_id == key, jobs.c.priority == -below)
    first: int = connection.execute(oldest.order_by(jobs.c.number).limit(1)).scalar_one()
    return first


def _result_file(store: Store, connection: Connection, found: Job, results: Blob) -> str:
    id = ids.record_id("file-")
    connection.execute(
        insert(files).values(
            id=id, project_id=found.project_id, key_id=found.key_id, filename="step_metrics.csv",
            purpose="fine-tune-results", bytes=results.size, created_at=store.now(connection), status="processed",
            blob=results.name, sha256=results.sha256,
        )
    )  # fmt: skip
    return id
