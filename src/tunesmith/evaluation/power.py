"""How small a difference could so many rows have shown?

The least difference d that a two-sided test at 5 % finds four times in five (power 80 %):

    n d^2 = (z_a sqrt(s + d^2) + z_b sqrt(s))^2,   z_a = 1.960, z_b = 0.842

with n rows and s the variance of the differences between two models' scores about their mean. Of right and wrong
answers s + d^2 is the share of rows on which the models differ, and the equation that of McNemar's test (Connor 1987,
with this share as it was observed). s comes from the bootstrap, so that it is told of any figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .stats import Paired

_ALPHA, _BETA = 1.959964, 0.841621
_FEWEST = 6
"""Below these not even rows that all changed the same way are more than chance: 2 / 2 ** 5 > 0.05."""


@dataclass(frozen=True)
class Power:
    """`detectable` is the least difference that `rows` rows show with a power of 80 %, in the metric's unit; None where
    none can be shown. `scatter` is the variance of the rows' differences."""

    metric: str
    rows: int
    scatter: float
    detectable: float | None


def power(metric: str, figures: Paired, *, share: bool) -> Power:
    """Of a metric's figures; `share` where it lies in [0, 1].

    Of a share a scatter of none is not believed: where no row of n differs, up to 3 in n may (the rule of three).
    """
    draws = np.zeros(1) if figures.draws is None else figures.draws
    rows = figures.rows
    scatter = float(np.var(draws)) * rows
    if share:
        scatter = max(scatter, min(1.0, 3 / rows))
    found = detectable(rows, scatter)
    return Power(metric, rows, scatter, None if found is None or (share and found > 1) else found)


def detectable(rows: int, scatter: float) -> float | None:
    """The least difference, see above; None below six rows, or where the scatter is no number."""
    if rows < _FEWEST or not np.isfinite(scatter):
        return None
    # The equation squared is quadratic in d; this is its one positive root.
    spread, free = np.sqrt(rows * scatter), rows - _ALPHA**2
    root = np.sqrt(_BETA**2 * spread**2 + free * (_ALPHA**2 - _BETA**2) * scatter)
    return float((_BETA * spread + root) / free)
