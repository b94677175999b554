"""What a worker must know of files and recipes, handed in by who may know it: `jobs` knows neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import TunesmithError
from .model import Failure, Job, Outcome, Snapshot


class RefusedError(TunesmithError):
    """The job cannot be trained as it was asked for: its files or its request are wrong."""

    def __init__(self, failure: Failure):
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class Accepted:
    """A job that can be trained."""

    hyperparameters: dict[str, Any]
    """What was asked for, with numbers for "auto"."""
    warnings: tuple[str, ...] = ()
    """What its owner should know."""


class Handler(Protocol):
    """The three places where a job's content counts. Each may be called again for the same job after a fault."""

    def prepare(self, job: Job, folder: Path) -> Accepted:
        """Validate the files, and write the claim's `input-N/` in the job's folder. RefusedError."""

    def snapshot(self, job: Job, folder: Path, run: Path) -> Snapshot | None:
        """A model of the run's newest checkpoint, put outside of the run's folder; None where there is none."""

    def finish(self, job: Job, folder: Path, run: Path) -> Outcome:
        """What a finished run has become."""
