"""Whether a reward model's certainty is earned: of pairs it is sure of by 80 %, does it put 80 % right?

The probability that one answer beats another is p = s(difference of their rewards), s the logistic function (Bradley &
Terry 1952). A pair has no side of its own, so the side that the model prefers is asked about: certainty max(p, 1 - p),
right or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""Of certainty, equally wide, from a half to 1."""


@dataclass(frozen=True)
class Bin:
    """The pairs whose certainty lies in [low, high): how many, how sure the model is of them and how often right."""

    low: float
    high: float
    pairs: int
    certainty: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3) and Brier's score, both 0 at best;
    the bins that hold pairs."""

    ece: float
    brier: float
    bins: list[Bin]


def calibration(chosen: NDArray[np.float64], rejected: NDArray[np.float64]) -> Calibration:
    """Of the rewards [pairs] of both answers. A tie is half right."""
    probability = 0.5 * (1 + np.tanh((chosen - rejected) / 2))  # the logistic function without overflow
    certainty = np.maximum(probability, 1 - probability)
    right = np.where(probability == 0.5, 0.5, (probability > 0.5).astype(np.float64))
    place = np.minimum(((certainty - 0.5) * 2 * BINS).astype(np.int64), BINS - 1)
    bins = []
    for number in np.unique(place).tolist():
        mine = place == number
        low, high = (BINS + number) / (2 * BINS), (BINS + number + 1) / (2 * BINS)
        bins.append(Bin(low, high, int(mine.sum()), float(certainty[mine].mean()), float(right[mine].mean())))
    pairs = max(len(right), 1)
    ece = sum(one.pairs * abs(one.accuracy - one.certainty) for one in bins) / pairs
    return Calibration(float(ece), float(((1 - probability) ** 2).sum() / pairs), bins)
