"""Paired bootstrap: how sure is a difference between two models on the same rows?

Rows are drawn with replacement, each draw scoring both models on the same rows (Koehn 2004; Efron & Tibshirani 1993,
percentile intervals). Figures are ratios of sums, so that means a row and means a token are the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CHUNK = 200


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


@dataclass(frozen=True)
class Paired:
    """Base, tuned and tuned minus base, each with its interval."""

    base: Interval
    tuned: Interval
    delta: Interval


def paired_bootstrap(
    base: Array,
    tuned: Array,
    weights: Array | None = None,
    *,
    resamples: int,
    seed: int,
    transform: Callable[[Array], Array] = np.asarray,
) -> Paired:
    """Intervals of transform(sum(values) / sum(weights)) for both models and of their difference.

    `base` and `tuned` are [rows]: scores, or summed losses with token counts as `weights` (default 1 a row).
    """
    rows = len(base)
    weight = np.ones(rows) if weights is None else weights.astype(np.float64)
    rng = np.random.default_rng(seed)
    draws: list[tuple[Array, Array]] = []
    for start in range(0, resamples, _CHUNK):
        pick = rng.integers(0, rows, size=(min(_CHUNK, resamples - start), rows))
        below = weight[pick].sum(1)
        draws.append((base[pick].sum(1) / below, tuned[pick].sum(1) / below))
    base_S, tuned_S = (transform(np.concatenate(part)) for part in zip(*draws, strict=True))
    base_value, tuned_value = (float(transform(np.array([values.sum() / weight.sum()]))[0]) for values in (base, tuned))
    return Paired(
        _interval(base_value, base_S),
        _interval(tuned_value, tuned_S),
        _interval(tuned_value - base_value, tuned_S - base_S),
    )


def _interval(value: float, samples: Array) -> Interval:
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(value, float(low), float(high))
