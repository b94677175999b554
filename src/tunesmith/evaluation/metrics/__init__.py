"""Metrics of one answer against one reference. A new one is its file, one entry in `METRICS`, a test.

`field_accuracy` takes a field: `field_accuracy:intent`. Loss and perplexity are not here: they need no answer.
"""

from __future__ import annotations

from collections.abc import Callable

from ...core.errors import ContentError, nearest
from .base import Metric
from .exact_match import ExactMatch
from .field_accuracy import FieldAccuracy
from .field_f1 import FieldF1
from .json_valid import JsonValid
from .rouge_l import RougeL
from .token_f1 import TokenF1

METRICS: dict[str, Callable[[], Metric]] = {
    "exact_match": ExactMatch,
    "json_valid": JsonValid,
    "field_f1": FieldF1,
    "token_f1": TokenF1,
    "rouge_l": RougeL,
}
FIELD_METRICS: dict[str, Callable[[str], Metric]] = {"field_accuracy": FieldAccuracy}

__all__ = ["FIELD_METRICS", "METRICS", "Metric", "named"]


def named(name: str, where: str = "evaluation.metrics") -> Metric:
    """The metric called `name`; a ContentError that lists the known ones otherwise."""
    kind, colon, field = name.partition(":")
    if colon and field and kind in FIELD_METRICS:
        return FIELD_METRICS[kind](field)
    if name in METRICS:
        return METRICS[name]()
    known = [*METRICS, *(f"{kind}:<field>" for kind in FIELD_METRICS)]
    raise ContentError(f"unknown metric '{name}'", where=where, mend=nearest(name, known))
