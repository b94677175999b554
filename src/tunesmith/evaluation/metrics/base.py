"""What a metric must offer."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Protocol


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
