"""The facts of charts that not every report has: whether certainty is earned, and how quality grows with the rows."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tunesmith.report.base import Count, Facts, Interval, Text, Unit


class BinFacts(Facts):
    """What a model is sure of by `low` to `high`: how many, how sure on average and which share of it is right.

    `right_ci95` is the 95 % interval of that share; None where it was not computed.
    """

    low: float
    high: float
    count: Count
    certainty: float
    right: float
    right_ci95: Interval | None = None


class CalibrationFacts(Facts):
    """Expected calibration error and Brier's score, both 0 at best, and the bins that are not empty."""

    ece: float
    brier: float
    bins: Sequence[BinFacts]

    @property
    def counted(self) -> int:
        """All rows, or pairs, in the bins."""
        return sum(one.count for one in self.bins)

    def at(self, low: float) -> BinFacts | None:
        """The bin that begins there; None where nothing is in it."""
        return next((one for one in self.bins if one.low == low), None)


class CertaintyFacts(Facts):
    """Whether certainty is earned. Of pairs a model is sure by a half at least, of rows by anything from 0 to 1."""

    title: Text
    counted: Literal["row", "pair"]
    base: CalibrationFacts | None
    tuned: CalibrationFacts

    @property
    def lowest(self) -> float:
        """The least certainty that there can be."""
        return 0.5 if self.counted == "pair" else 0.0

    @property
    def bins(self) -> list[tuple[float, float]]:
        """The ends of every bin that one of the models has, from low to high."""
        models = [self.tuned] if self.base is None else [self.base, self.tuned]
        return sorted({(one.low, one.high) for model in models for one in model.bins})


class GrowthPointFacts(Facts):
    """A model that was trained on so many rows. `gain_ci95` is of what it has more than the base, in the metric's unit;
    forgetting is nats per token, None where it was not measured."""

    rows: Count
    value: float
    ci95: Interval
    gain_ci95: Interval
    forgetting: float | None
    seconds: float


class ForecastPointFacts(Facts):
    """What so many rows would bring: the metric's value, with the interval of the gain laid at the last point."""

    rows: Count
    value: float
    ci95: Interval
    words: Text


class GrowthFacts(Facts):
    """Quality on growing parts of the training rows, each holding the one before, on the same held-out rows."""

    metric: Text
    unit: Unit
    higher_is_better: bool
    base: float
    held_out: Count
    measured_on: Text
    points: Sequence[GrowthPointFacts] = Field(min_length=1)
    forecast: ForecastPointFacts | None = None
