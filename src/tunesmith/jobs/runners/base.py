"""What a runner does: start a job's training, tell how it goes, stop it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ..model import Job, Metric

How = Literal["done", "interrupted", "refused", "broken"]
"""done: trained, whatever the gate said. interrupted: stopped with its state saved. refused: the request or its data
is wrong, and will be next time. broken: anything else, which may go better next time."""


@dataclass(frozen=True)
class Ended:
    """How a training ended, and its last words."""

    how: How
    said: str = ""


class Running(Protocol):
    """A training under way. One thread calls it."""

    def steps(self) -> list[Metric]:
        """Steps trained since the last call, in order; those of an earlier process may be among them."""

    def total_steps(self) -> int | None:
        """How many there will be, once that is known."""

    def ended(self) -> Ended | None:
        """How it ended; None while it goes on."""

    def beat(self) -> None:
        """The lease is good: go on. Without a beat for a lease's time, it stops by itself."""

    def interrupt(self) -> None:
        """Save the state and stop, soon."""

    def kill(self) -> None:
        """Stop at once, with everything that was started; back when nothing of it runs."""


class Runner(Protocol):
    """Starts trainings."""

    def start(self, job: Job, folder: Path, run: Path) -> Running:
        """Train in the folder `run`, going on from what is there. `folder` is the job's own, with its recipe."""

    def reclaim(self, folder: Path, fence: int) -> None:
        """End what claims before `fence` left running for the job, as far as it can be reached from here."""
