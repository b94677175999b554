"""How quality grows with the training rows, and what twice as many would bring.

Errors fall along a power law of the rows (Hestness et al. 2017, arXiv 1712.00409): log error = a - c log rows. The
slope is that of least squares through all points; the forecast starts from the last measured point, for a line through
four points misses it. The interval is of the test rows alone (all points resampled together): it does not tell whether
the curve keeps its form, and a curve that is about to flatten looks better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .metrics.over_rows import Scored
from .stats import Interval, interval, resampled

Array = NDArray[np.float64]
SHARES = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Point:
    """A model trained on so many rows."""

    rows: int
    scored: Scored


@dataclass(frozen=True)
class Forecast:
    """`value` at `rows`, twice those of the last point; `gain` is what it is better by, whichever way is better."""

    rows: int
    value: float
    gain: Interval

    def words(self, metric: str) -> str:
        """What more rows would bring, never more surely than the interval."""
        between = f"between {self.gain.low:+.3f} and {self.gain.high:+.3f}"
        if self.gain.low > 0:
            return f"{self.rows:,} rows would bring {metric} to about {self.value:.3f}, a gain {between}"
        if self.gain.high < 0:
            return f"more rows of this kind have not helped {metric}: {self.rows:,} would change it {between}"
        return f"whether {self.rows:,} rows would help {metric} is not shown: a gain {between}"


def forecast(points: Sequence[Point], *, lower: bool, resamples: int, seed: int) -> Forecast | None:
    """From points in the order of their rows, all scored on the same test rows; None of fewer than three sizes.

    `lower` is of a figure that is an error itself; else the error is what it lacks to 1.
    """
    if len({point.rows for point in points}) < 3:
        return None
    rows = np.log([point.rows for point in points])
    tested = len(points[-1].scored.rows)
    drawn_PS = np.stack(resampled([point.scored for point in points], resamples=resamples, seed=seed))
    value_P = np.array([point.scored.value for point in points])
    gain = float(_gain(rows, value_P[:, None], lower, tested)[0])
    spread = interval(gain, _gain(rows, drawn_PS, lower, tested), tested)
    last = points[-1].scored.value
    return Forecast(2 * points[-1].rows, last - gain if lower else last + gain, spread)


def _gain(rows_P: Array, value_PS: Array, lower: bool, tested: int) -> Array:
    """[S]: how far the error falls below the last point's when the rows are doubled. An error of 0 counts as half a
    row's, for a logarithm has none."""
    error_PS = np.maximum(value_PS if lower else 1 - value_PS, 0.5 / tested)
    x_P = rows_P - rows_P.mean()
    slope_S = -(x_P @ np.log(error_PS)) / (x_P @ x_P)
    gain_S: Array = np.round(error_PS[-1] * (1 - 2.0**-slope_S), 12)  # no gain is no gain, whatever sums round to
    return gain_S
