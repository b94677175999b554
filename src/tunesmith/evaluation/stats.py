"""Paired bootstrap: how sure is a difference between two models on the same rows?

Rows are drawn with replacement, each draw scoring both models on the same rows (Koehn 2004; Efron & Tibshirani 1993).
A figure is made of sums over rows, so that a mean a row, a mean a token, BLEU and macro F1 are the same code: a draw
counts how often it has each row, and the counts times what the rows hold are its sums.

Intervals are percentile intervals, widened for few rows as Hesterberg 2015 (section 5.3) has it: the bootstrap's spread
is too small by sqrt((n - 1) / n), and few rows call for Student's t in place of the normal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..core.later import later
from .metrics.over_rows import Scored, of_mean, ratio

special = later("scipy.special")
Array = NDArray[np.float64]
_CHUNK = 200
LEVEL = 0.05
"""What 95 % leave over."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def pair(self) -> list[float]:
        """[low, high]."""
        return [self.low, self.high]

    @property
    def holds_zero(self) -> bool:
        """Whether zero is among the values that the interval cannot rule out; of what is no number it cannot."""
        return not (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Paired:
    """Base, tuned and tuned minus base, each with its interval. `draws` are the resampled differences."""

    base: Interval
    tuned: Interval
    delta: Interval
    rows: int = 0
    draws: Array | None = field(default=None, compare=False, repr=False)

    def delta_at(self, level: float) -> Interval:
        """The difference with its interval at another level: 0.05 leaves 2.5 % on either side."""
        if self.draws is None:
            return self.delta
        return interval(self.delta.value, self.draws, self.rows, level)


def paired_bootstrap(
    base: Array,
    tuned: Array,
    weights: Array | None = None,
    *,
    resamples: int,
    seed: int,
    transform: Callable[[Array], Array] = np.asarray,
) -> Paired:
    """95 % intervals of both models' figures and of their difference.

    `base` and `tuned` are [rows]: scores, or summed losses with token counts as `weights` (default 1 a row).
    """

    def figure(sums: Array) -> Array:
        return transform(ratio(sums))

    both = (Scored(s, of_mean(s, weights).statistics, figure) for s in (base, tuned))
    return bootstrap(*both, resamples=resamples, seed=seed)


def bootstrap(base: Scored, tuned: Scored, *, resamples: int, seed: int) -> Paired:
    """95 % intervals of both models' figures and of their difference, whatever sums the figures are made of."""
    rows = len(base.statistics)
    base_S, tuned_S = resampled((base, tuned), resamples=resamples, seed=seed)
    return Paired(
        interval(base.value, base_S, rows),
        interval(tuned.value, tuned_S, rows),
        interval(tuned.value - base.value, tuned_S - base_S, rows),
        rows,
        tuned_S - base_S,
    )


def resampled(models: Sequence[Scored], *, resamples: int, seed: int) -> list[Array]:
    """The figures [resamples] of several models, each draw the same rows for all of them."""
    figures = [[one.figure(times @ one.statistics) for one in models] for times in _draws(models[0], resamples, seed)]
    return [np.concatenate(part) for part in zip(*figures, strict=True)]


def _draws(of: Scored, resamples: int, seed: int) -> Iterator[Array]:
    rows, rng = len(of.statistics), np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        yield _times(rng.integers(0, rows, size=(min(_CHUNK, resamples - start), rows)), rows)


def _times(pick: NDArray[np.int64], rows: int) -> Array:
    """[draws, rows]: how often each draw has each row."""
    flat = pick + np.arange(len(pick))[:, None] * rows
    return np.bincount(flat.ravel(), minlength=pick.size).reshape(pick.shape).astype(np.float64)


def _widened(rows: int, level: float) -> float:
    """The share of the resamples that lies below the interval."""
    t = special.stdtrit(rows - 1, level / 2)
    return float(special.ndtr(t * np.sqrt(rows / (rows - 1))))


def interval(value: float, samples: Array, rows: int, level: float = LEVEL) -> Interval:
    """A figure of so many rows with its interval, from the figure's resamples."""
    tail = 100 * level / 2 if rows < 2 else 100 * _widened(rows, level)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
