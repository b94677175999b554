"""A job and what belongs to it, as others see them. Times are seconds since 1970."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from sqlalchemy import Connection

from ..core.errors import ConflictError, MissingError, NotAllowedError
from ..store.database import Store
from .states import Status

T = TypeVar("T")
Level = Literal["info", "warn", "error"]
Work = Literal["validate", "train"]


@dataclass(frozen=True)
class NewJob:
    """What is asked for. Field names are the wire's where the wire has them."""

    project_id: str
    key_id: str
    organization: str
    """The slug in the model's name."""
    model: str
    """As it was asked for: the name in the tuned model's name."""
    base: str
    """What `model` stands for here: a bundled name, a folder, a hub id, or the name of a tuned model."""
    training_file: str
    """A file's id."""
    method: Mapping[str, Any]
    """{"type": "supervised" | "dpo", "hyperparameters": {...}}, each value a number or "auto"."""
    seed: int
    validation_file: str | None = None
    suffix: str | None = None
    integrations: list[dict[str, Any]] | None = None
    metadata: Mapping[str, str] | None = None
    priority: int = 0
    """Higher ones first, whatever the key."""
    max_queued: int | None = None
    """How many unfinished jobs the key may have; None for no limit."""


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in the wire's words."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True)
class Job:
    """A job as it stands."""

    number: int
    id: str
    project_id: str
    key_id: str
    organization: str
    model: str
    base: str
    training_file: str
    validation_file: str | None
    suffix: str | None
    seed: int
    method: dict[str, Any]
    integrations: list[dict[str, Any]] | None
    metadata: dict[str, str] | None
    priority: int
    status: Status
    created_at: float
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    hyperparameters: dict[str, Any] | None
    """What "auto" became; None before the files are validated."""
    step: int
    """Steps trained and told."""
    total_steps: int | None
    estimated_finish: float | None
    trained_tokens: int | None
    fine_tuned_model: str | None
    error: Failure | None
    result_files: tuple[str, ...]
    verdict: dict[str, Any] | None
    """What the gate said: {"passed": bool, "reasons": [...]}; None where nothing could be compared."""
    fence: int
    """How often it was claimed."""
    worker_id: str | None
    failures: int
    """Ends that were nobody's wish, without progress between them."""


@dataclass(frozen=True)
class Event:
    """A line of a job's story."""

    number: int
    id: str
    job_id: str
    created_at: float
    level: Level
    type: Literal["message", "metrics"]
    message: str
    data: dict[str, Any] | None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be asked as a model."""

    number: int
    id: str
    job_id: str
    created_at: float
    step_number: int
    model: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list, and whether more comes."""

    data: list[T]
    has_more: bool


@dataclass(frozen=True)
class Lease:
    """The right to work on a job. Every write under it names it, and is refused once another has the job."""

    job_id: str
    fence: int
    worker_id: str
    work: Work


@dataclass(frozen=True)
class Metric:
    """One trained step."""

    step: int
    message: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """Weights of a step that can be asked as a model."""

    step: int
    base: str
    """The base that the weights belong to: a bundled name, a folder, a hub id."""
    weights: str
    """Folder of the adapter or model, below the store's folder."""
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a finished training left."""

    run: str
    """The run's folder below the store's folder."""
    final: Snapshot
    earlier: tuple[Snapshot, ...] = ()
    """Checkpoints before it that can be asked, oldest first."""
    trained_tokens: int | None = None
    verdict: dict[str, Any] | None = None
    results: bytes = b""
    """The result file, CSV."""


class LeaseLostError(ConflictError):
    """Another has the job, or it was cancelled: nothing was written, and nothing may be written any more."""


class NoJobError(MissingError):
    """There is no such job in the project."""


class TooManyJobsError(NotAllowedError):
    """The key has as many unfinished jobs as it may have."""


class Record(Protocol):
    """Writes what was done into the audit log, in the same transaction."""

    def __call__(
        self, store: Store, connection: Connection, *, actor: str, project_id: str | None, action: str, target: str,
        detail: dict[str, Any],
    ) -> None:  # fmt: skip
        """Append an entry."""


def unrecorded(
    store: Store, connection: Connection, *, actor: str, project_id: str | None, action: str, target: str,
    detail: dict[str, Any],
) -> None:  # fmt: skip
    """For tests and benchmarks: no audit log."""
