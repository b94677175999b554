"""A metric over many rows: a score for each, and the sums that its figure is made of.

A mean is a figure of sums too (of scores and of rows). So one bootstrap, which draws rows and adds up what they hold,
serves means, BLEU and macro F1 alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.messages import Example
from .base import Array, Batched, Demanding, Directed, Metric, Pooled, Sampled, Unit

REFERENCES = "references"
"""The key of a row that may hold further right answers, a list of texts."""


@dataclass(frozen=True)
class Scored:
    """What one model reaches by one metric: scores [rows], what each row adds to the sums [rows, k], and the figure of
    such sums."""

    rows: Array
    statistics: Array
    figure: Callable[[Array], Array]

    @property
    def value(self) -> float:
        """The figure over all rows."""
        return float(self.figure(self.statistics.sum(0)))

    def of(self, rows: NDArray[np.int64]) -> Scored:
        """Some of the rows."""
        return Scored(self.rows[rows], self.statistics[rows], self.figure)


def references(row: Example) -> list[str]:
    """All right answers of a row: its own, and those under its key `references`."""
    more = row.metadata.get(REFERENCES)
    return (
        [row.answer(), *(text for text in more if isinstance(text, str))] if isinstance(more, list) else [row.answer()]
    )


def scored(
    metric: Metric, predictions: Sequence[str], rows: Sequence[Example], drawn: Sequence[Sequence[str]] = ()
) -> Scored:  # fmt: skip
    """The answers of one model by one metric. Where a row has several right answers, the one that fits best counts.

    `drawn` are further answers to each row, for a metric that asks for such.
    """
    if isinstance(metric, Sampled) and metric.samples and drawn:
        scores = np.array(metric.scores_of_drawn(drawn, rows), dtype=np.float64)
    elif isinstance(metric, Batched):
        scores = np.array(metric.scores(predictions, rows), dtype=np.float64)
    else:
        pairs = zip(predictions, rows, strict=True)
        scores = np.array([max(metric.score(text, right) for right in references(row)) for text, row in pairs])
    if isinstance(metric, Pooled):
        return Scored(scores, metric.statistics(predictions, rows), metric.figure)
    return of_mean(scores)


def require(metrics: Iterable[Metric], rows: Sequence[Example]) -> None:
    """ContentError, before anything is trained, where one of the metrics cannot score these rows."""
    for metric in metrics:
        if isinstance(metric, Demanding):
            metric.require(rows)


def of_mean(scores: Array, weights: Array | None = None) -> Scored:
    """Scores whose figure is their mean; or sums [rows] with `weights` [rows], whose figure is the mean a unit of
    weight."""
    weight = np.ones(len(scores)) if weights is None else weights.astype(np.float64)
    return Scored(scores, np.stack([scores, weight], axis=1), ratio)


def ratio(sums: Array) -> Array:
    """[..., 2] -> [...]: the first sum over the second."""
    quotient: Array = sums[..., 0] / sums[..., 1]
    return quotient


def lower_is_better(metric: Metric) -> bool:
    """The direction of a metric."""
    return isinstance(metric, Directed) and metric.lower_is_better


def unit(metric: Metric) -> Unit:
    """What a metric's figures are."""
    return metric.unit if isinstance(metric, Directed) else "share"
