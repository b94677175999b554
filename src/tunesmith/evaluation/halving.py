"""Successive halving: many candidates on few rows, the better ones on more (Jamieson and Talwalkar 2016,
arXiv 1502.07943), under a budget of time.

Where they have a budget of steps, here it is seconds, shared out evenly among the rungs; how many rows a rung affords
follows from what the trials before it took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ETA = 3
"""One in so many goes on."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a trial: whatever it is trained on, and for each training row."""

    fixed: float
    row: float


def rungs(candidates: int) -> list[int]:
    """How many candidates each rung has, the whole of them first. The last one has no more than would be cut to one."""
    found = [candidates]
    while found[-1] > ETA:
        found.append(-(-found[-1] // ETA))
    return found


def rows_within(seconds: float, costs: Sequence[Cost], most: int) -> int:
    """Training rows that each of these trials can have in the time of all together; 0 where there is time for none."""
    left = seconds - sum(cost.fixed for cost in costs)
    return max(0, min(most, int(left / max(sum(cost.row for cost in costs), 1e-9))))
