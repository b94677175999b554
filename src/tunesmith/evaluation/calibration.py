"""Whether a model's certainty is earned: of what it is sure of by 80 %, is 80 % right?

Of a reward model: the probability that one answer beats another is p = s(difference of their rewards), s the logistic
function (Bradley & Terry 1952). A pair has no side of its own, so the side that the model prefers is asked about:
certainty max(p, 1 - p), right or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""Of certainty, equally wide; of pairs from a half to 1."""
_NORMAL = 1.959963984540054
"""The normal's quantile at 0.975."""


@dataclass(frozen=True)
class Bin:
    """The pairs, or rows, whose certainty lies in [low, high): how many, how sure the model is and how often right.

    The 95 % interval of that share is Wilson's (1927, JASA 22(158)): in a bin of few rows any share may be chance.
    """

    low: float
    high: float
    pairs: int
    certainty: float
    accuracy: float
    accuracy_ci95: tuple[float, float]


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
    brier = float(((1 - probability) ** 2).sum() / max(len(right), 1))
    return _binned(certainty, right, brier, lowest=0.5)


def of_answers(certainty: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Of how sure a model is of each answer, [rows] in [0, 1], and whether it is right. Brier's score is the mean of
    (certainty - right) squared."""
    brier = float(((certainty - right) ** 2).sum() / max(len(right), 1))
    return _binned(certainty, right.astype(np.float64), brier, lowest=0.0)


def of_labels(probability: NDArray[np.float64], truth: NDArray[np.int64]) -> Calibration:
    """Of the probabilities [rows, labels] and the right labels' places, -1 for one that is not among them. The
    certainty is that of the likeliest label; Brier's score is the sum over labels of (probability - truth) squared
    (Brier 1950), from 0 to 2."""
    known = truth >= 0
    wanted = np.zeros_like(probability)
    wanted[np.flatnonzero(known), truth[known]] = 1
    missing = (~known).astype(np.float64)  # the right label has probability 0
    brier = float((((probability - wanted) ** 2).sum(1) + missing).sum() / max(len(truth), 1))
    right = (probability.argmax(1) == truth).astype(np.float64)
    return _binned(probability.max(1), right, brier, lowest=0.0)


def _binned(
    certainty: NDArray[np.float64], right: NDArray[np.float64], brier: float, *, lowest: float
) -> Calibration:  # fmt: skip
    """Certainties from `lowest` to 1 in bins of equal width."""
    width = (1 - lowest) / BINS
    place = np.minimum(((certainty - lowest) / (1 - lowest) * BINS).astype(np.int64), BINS - 1)
    bins = []
    for number in np.unique(place).tolist():
        mine = place == number
        ends = round(lowest + number * width, 12), round(lowest + (number + 1) * width, 12)
        count, share = int(mine.sum()), float(right[mine].mean())
        bins.append(Bin(*ends, count, float(certainty[mine].mean()), share, _wilson(share, count)))
    ece = sum(one.pairs * abs(one.accuracy - one.certainty) for one in bins) / max(len(right), 1)
    return Calibration(float(ece), brier, bins)


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of `count`."""
    z2 = _NORMAL**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    reach = _NORMAL / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, centre - reach), min(1.0, centre + reach)
