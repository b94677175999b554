"""Parts of the test rows, to see where a model does well and where it does not; and which part it does worst on.

What rows are parted by: any metadata field; and, where no row has a field of that name, `label` (the right answer),
`length` (characters of what the user says, in thirds) and `source` (the file a row was read from).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example

if TYPE_CHECKING:
    from .compare import MetricResult, Slice

AUTO: Literal["auto"] = "auto"
FEWEST = 10
"""Rows of a slice that may be called the worst: of fewer a figure is an accident."""
_MOST_LABELS = 12
_ENOUGH_TO_SPLIT = 30


@dataclass(frozen=True)
class Part:
    """The rows that are alike in `field`: their places, in order."""

    field: str
    value: str
    rows: NDArray[np.int64]

    def __contains__(self, row: int) -> bool:
        place = int(np.searchsorted(self.rows, row))
        return place < len(self.rows) and int(self.rows[place]) == row


@dataclass(frozen=True)
class Worst:
    """The slice on which the tuned model's first metric is worst, and whether it is clearly below the whole."""

    field: str
    value: str
    rows: int
    metric: str
    tuned: float
    tuned_ci95: list[float]
    delta: float
    ci95: list[float]
    clearly_below: bool


def parts(examples: Sequence[Example], fields: Sequence[str] | Literal["auto"]) -> list[Part]:
    """The rows by each field, the most frequent value first; rows that do not have a field are left out."""
    if isinstance(fields, str):
        return [part for field in _OTHERS for part in _telling(_by(examples, field), field, len(examples))]
    return [part for field in fields for part in _by(examples, field)]


def worst(slices: Sequence[Slice], whole: MetricResult) -> Worst | None:
    """Of the slices of at least ten rows that are not the whole; None where there is no such."""
    sign = -1 if whole.lower_is_better else 1
    known = [
        (part, metric)
        for part in slices
        for metric in part.metrics
        if metric.name == whole.name and FEWEST <= part.rows < whole.figures.rows
    ]
    if not known:
        return None
    part, metric = min(known, key=lambda one: sign * one[1].figures.tuned.value)
    tuned, level = metric.figures.tuned, whole.figures.tuned.value
    below = tuned.low > level if whole.lower_is_better else tuned.high < level
    return Worst(
        part.field, part.value, part.rows, metric.name, tuned.value, tuned.pair, metric.figures.delta.value,
        metric.figures.delta.pair, below,
    )  # fmt: skip


def _telling(found: list[Part], field: str, rows: int) -> list[Part]:
    """The parts where they are several, few enough to read and large enough to say something."""
    most = _MOST_LABELS if field == "label" else rows
    return found if 1 < len(found) <= most and rows >= _ENOUGH_TO_SPLIT else []


def _by(examples: Sequence[Example], field: str) -> list[Part]:
    if field in _OTHERS and not any(field in example.metadata for example in examples):
        values = _OTHERS[field](examples)
    else:
        values = [str(e.metadata[field]) if field in e.metadata else None for e in examples]
    rows: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        if value is not None:
            rows.setdefault(value, []).append(index)
    ordered = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Part(field, value, np.array(places)) for value, places in ordered]


def _labels(examples: Sequence[Example]) -> list[str | None]:
    return [example.answer().strip() for example in examples]


def _sources(examples: Sequence[Example]) -> list[str | None]:
    return [example.origin.rpartition(":")[0] or None for example in examples]


def _lengths(examples: Sequence[Example]) -> list[str | None]:
    """Thirds by the characters of what the user says; fewer where many rows are equally long."""
    lengths = np.array([sum(len(m.content or "") for m in e.prompt() if m.role == "user") for e in examples])
    low, high = np.quantile(lengths, (1 / 3, 2 / 3), method="lower") if len(lengths) else (0, 0)
    names = (f"up to {low} characters", f"{low + 1} to {high} characters", f"over {high} characters")
    return [names[int(length > low) + int(length > high)] for length in lengths.tolist()]


_OTHERS: dict[str, Callable[[Sequence[Example]], list[str | None]]] = {
    "label": _labels, "length": _lengths, "source": _sources,
}  # fmt: skip
