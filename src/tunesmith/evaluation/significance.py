"""Could the difference between two models be chance? Tests on the same rows, and what many tests at once require.

McNemar's exact test (McNemar 1947) for scores of right or wrong: of the rows on which the models differ, chance would
give either half. For all other figures the permutation test: were the models alike, each row's two results could as
well be the other way round (Fisher 1935; Good 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .metrics.over_rows import Scored, ratio

Array = NDArray[np.float64]
Test = Literal["mcnemar", "permutation"]
_MOST_EXACT = 12
"""Rows that differ up to which all 2 ** rows ways are tried."""
_CHUNK = 500


@dataclass(frozen=True)
class Difference:
    """The probability of a difference as large as the one seen, either way, were the models alike; and the test."""

    p_value: float
    test: Test


def difference(base: Scored, tuned: Scored, *, permutations: int, seed: int) -> Difference:
    """McNemar's test where both models' scores are right or wrong and the figure is their mean; else permutation."""
    if all(_right_or_wrong(one) for one in (base, tuned)):
        won, lost = int((tuned.rows > base.rows).sum()), int((tuned.rows < base.rows).sum())
        return Difference(mcnemar(won, lost), "mcnemar")
    return Difference(permutation(base, tuned, permutations=permutations, seed=seed), "permutation")


def _right_or_wrong(one: Scored) -> bool:
    """Whether each row is right or wrong and the figure is the share that is right."""
    ones = np.column_stack([one.rows, np.ones(len(one.rows))])
    return one.figure is ratio and bool(np.isin(one.rows, (0.0, 1.0)).all()) and np.array_equal(one.statistics, ones)


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p of `won` rows that only one model has right and `lost` that only the other has."""
    differing = won + lost
    ways = sum(comb(differing, k) for k in range(min(won, lost) + 1))
    p: float = 2 * ways / 2**differing
    return min(1.0, p)


def kept(base: NDArray[np.bool_], tuned: NDArray[np.bool_]) -> dict[str, float | int]:
    """What holds of items before and after, bool [items] each: shares, how many came and went, and McNemar's p."""
    won, lost = int((tuned & ~base).sum()), int((base & ~tuned).sum())
    shares = {"base": float(base.mean()), "tuned": float(tuned.mean())}
    return {"items": len(base), **shares, "won": won, "lost": lost, "p_value": mcnemar(won, lost)}


def permutation(base: Scored, tuned: Scored, *, permutations: int, seed: int) -> float:
    """Two-sided p of the difference of two figures, rows' results changing sides at random.

    Exact where at most 12 rows differ; else of `permutations` draws, the one seen counted among them (Phipson & Smyth
    2010), so that it is never 0.
    """
    apart = tuned.statistics - base.statistics
    moving = np.abs(apart).sum(1) > 0
    apart, differing = apart[moving], int(moving.sum())
    sums = base.statistics.sum(0), tuned.statistics.sum(0)
    seen = abs(float(tuned.figure(sums[1]) - base.figure(sums[0])))

    def as_far(swap: Array) -> int:
        moved = swap @ apart
        return int((np.abs(tuned.figure(sums[1] - moved) - base.figure(sums[0] + moved)) >= seen * (1 - 1e-9)).sum())

    if differing <= _MOST_EXACT:
        ways = np.arange(2**differing)[:, None] >> np.arange(differing) & 1
        exact: float = as_far(ways.astype(np.float64)) / 2**differing
        return exact
    rng = np.random.default_rng(seed)
    sizes = [min(_CHUNK, permutations - start) for start in range(0, permutations, _CHUNK)]
    found = sum(as_far(rng.integers(0, 2, size=(size, differing)).astype(np.float64)) for size in sizes)
    return (found + 1) / (permutations + 1)


def holm_levels(p_values: Sequence[float], level: float) -> list[float]:
    """For each of several tests the level that it must hold at, so that all together err by `level` (Holm 1979).

    The smallest p is held against level / m, the next against level / (m - 1), and so on; behind the first that fails,
    all fail: their level is that of the failed one, or less.
    """
    order = np.argsort(p_values, kind="stable")
    levels, strictest = [level] * len(p_values), level
    failed = False
    for rank, place in enumerate(order.tolist()):
        step = level / (len(p_values) - rank)
        strictest = min(strictest, step) if failed else step
        levels[place] = strictest
        failed = failed or p_values[place] > step
    return levels
