"""What a job can be, and how it gets from one to another. `docs/jobs.md` draws it; a test compares.

Statuses are the hosted API's. A move that is not in the table is refused, by this module and, in the same statement
that writes it, by the database.
"""

from __future__ import annotations

from typing import Literal, get_args

from ..core.errors import ConflictError

Status = Literal["validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"]
Action = Literal["accept", "begin", "pause", "stop", "resume", "requeue", "succeed", "fail", "cancel"]
"""What moves a job. `stop`: a pausing job's process has ended; `requeue`: a running one's was lost or interrupted."""

STATUSES: tuple[Status, ...] = get_args(Status)
FINAL: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
HELD: frozenset[Status] = frozenset({"validating_files", "running", "pausing"})
"""In these a worker may hold a lease."""

TRANSITIONS: dict[tuple[Status, Action], Status] = {
    ("validating_files", "accept"): "queued",
    ("validating_files", "fail"): "failed",
    ("validating_files", "cancel"): "cancelled",
    ("queued", "begin"): "running",
    ("queued", "pause"): "paused",
    ("queued", "cancel"): "cancelled",
    ("running", "pause"): "pausing",
    ("running", "requeue"): "queued",
    ("running", "succeed"): "succeeded",
    ("running", "fail"): "failed",
    ("running", "cancel"): "cancelled",
    ("pausing", "stop"): "paused",
    ("pausing", "succeed"): "succeeded",
    ("pausing", "fail"): "failed",
    ("pausing", "cancel"): "cancelled",
    ("paused", "resume"): "queued",
    ("paused", "cancel"): "cancelled",
}


class IllegalMoveError(ConflictError):
    """The job is in a status from which this cannot be done."""

    def __init__(self, job_id: str, status: str, action: Action):
        super().__init__(f"job {job_id} is {status}", mend=f"possible while it is {' or '.join(sources(action))}")
        self.job_id, self.status, self.action = job_id, status, action


def sources(action: Action) -> tuple[Status, ...]:
    """From where an action leads on."""
    return tuple(status for status, known in TRANSITIONS if known == action)


def target(status: Status, action: Action) -> Status | None:
    """Where an action leads; None where it is not allowed."""
    return TRANSITIONS.get((status, action))
