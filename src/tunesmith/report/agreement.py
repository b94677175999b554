"""Old model beside new, row by row, as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .render import plain_page

MOST_ROWS = 300
"""Rows of a job on the page; those that differ most come first. `agreement.json` has all."""


@dataclass(frozen=True)
class Share:
    """How many of `rows` there are, with Wilson's 95 % interval of their share."""

    count: int
    rows: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.rows

    def as_text(self) -> str:
        """`83 % (10 of 12; 55 to 95 %)`."""
        return f"{self.value:.0%} ({self.count} of {self.rows}; {self.low:.0%} to {self.high:.0%})"


@dataclass(frozen=True)
class Row:
    """One question and both answers. `similarity` is in [0, 1]."""

    source: str
    prompt: str
    reference: str | None
    old: str
    new: str
    equal: bool
    similarity: float


@dataclass(frozen=True)
class Job:
    """One job, and how far the model that was trained again says what the old one says."""

    job: str
    model: str
    base: str
    run: str
    verdict: str
    asked_from: str
    learned_before: bool
    equal: Share
    similarity: float
    """Mean over rows."""
    old_right: Share | None
    """Against the rows' own answers; None where they have none."""
    new_right: Share | None
    unanswered: int
    """Questions that one of the two did not answer; they are not counted."""
    rows: Sequence[Row]

    def shown(self) -> list[Row]:
        """The rows for the page: the least alike first."""
        return sorted(self.rows, key=lambda row: (row.equal, row.similarity))[:MOST_ROWS]


def page(jobs: Sequence[Job], service: str, made: str) -> str:
    """The page as HTML text."""
    return plain_page("agreement.html.j2", jobs=jobs, service=service, made=made)
