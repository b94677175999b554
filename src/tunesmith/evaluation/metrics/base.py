"""What a metric must offer, and what it may offer beside that.

Metric    scores one answer; its figure is the mean over rows
Batched   scores all rows at once, and may look at the whole row
Sampled   looks at several answers to each row, drawn at random (pass@k)
Pooled    its figure is no mean over rows: it is made of sums over rows (BLEU, macro F1)
Demanding says of rows, before any training, that they cannot be scored
Directed  its figure is no share, or less of it is better
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...core.messages import Example

Array = NDArray[np.float64]
Unit = Literal["share", "nats", "ratio"]


class Metric(Protocol):
    """Scores one answer; the mean over rows is the figure. Scores lie in [0, 1], 1 is best."""

    @property
    def name(self) -> str:
        """The name in recipes and reports."""

    @property
    def uses_reference(self) -> bool:
        """Whether the score looks at the reference; copying answers proves nothing for one that does not."""

    def score(self, prediction: str, reference: str) -> float:
        """The score of one answer."""


@runtime_checkable
class Batched(Protocol):
    """A metric that scores all rows at once: one that needs more of a row than its answer, or a process of its own."""

    def scores(self, predictions: Sequence[str], rows: Sequence[Example]) -> Sequence[float]:
        """The scores of the answers, in order."""


@runtime_checkable
class Pooled(Protocol):
    """A metric whose figure is made of sums over rows, and of which only the sums are added."""

    def statistics(self, predictions: Sequence[str], rows: Sequence[Example]) -> Array:
        """[rows, k]: what each row adds to the sums."""

    def figure(self, sums: Array) -> Array:
        """[..., k] -> [...]: the figure of such sums."""


@runtime_checkable
class Sampled(Protocol):
    """A metric that is asked of several answers to each row, drawn at random, where its `samples` is above 0."""

    @property
    def samples(self) -> int:
        """Answers to draw for each row; 0 where the one greedy answer is enough."""

    @property
    def temperature(self) -> float:
        """Of the drawing."""

    def scores_of_drawn(self, drawn: Sequence[Sequence[str]], rows: Sequence[Example]) -> Sequence[float]:
        """The scores of the rows, in order; `drawn` holds the answers to each."""


@runtime_checkable
class Demanding(Protocol):
    """A metric that needs something of the rows, or of the user, and can say before any training that it is absent."""

    def require(self, rows: Sequence[Example]) -> None:
        """ContentError, naming the row, where these rows cannot be scored."""


@runtime_checkable
class Directed(Protocol):
    """A metric of which less may be better, or which is no share."""

    @property
    def lower_is_better(self) -> bool:
        """The direction."""

    @property
    def unit(self) -> Unit:
        """What its figures are."""


def parsed(text: str) -> Any:
    """A JSON value; None where the text is not one. NaN and Infinity are not JSON."""
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return None


def refuse_constant(constant: str) -> None:
    """For `json.loads`: Python reads NaN and Infinity, JSON has neither."""
    raise ValueError(f"{constant} is not JSON")


def f1(predicted: Counter[Any], wanted: Counter[Any]) -> float:
    """Harmonic mean of precision and recall of two multisets; 1 when both are empty."""
    if not predicted and not wanted:
        return 1.0
    shared = (predicted & wanted).total()
    return 2 * shared / (predicted.total() + wanted.total())


def same(a: object, b: object) -> bool:
    """Equality of JSON values in which true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b
