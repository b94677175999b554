"""What accuracy alone hides: each label's precision and recall, their mean F1, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.later import later

metrics = later("sklearn.metrics")


@dataclass(frozen=True)
class Label:
    """One label: its test rows, and the shares of them that are found (recall) and of what is called so that is it."""

    label: str
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Classes:
    """One model on the test rows. `macro_f1` is the mean over the labels that occur or are said."""

    macro_f1: float
    labels: list[Label]
    confusions: list[tuple[str, str, int]]
    """(true label, what was said, rows), the most frequent first; what is right is left out."""


NO_LABEL = "(no label)"
"""What an answer counts as that is no label of the test rows."""


def said_classes(truth: Sequence[str], said: Sequence[str]) -> Classes:
    """Of labels and answers as texts [rows]; the labels are those that are right somewhere."""
    names = [*sorted(set(truth)), NO_LABEL]
    number = {name: i for i, name in enumerate(names)}
    other = len(names) - 1
    t, s = (np.array([number.get(one, other) for one in texts], dtype=np.float64) for texts in (truth, said))
    return classes(t, s, names, real=other)


def classes(
    truth: NDArray[np.float64], said: NDArray[np.float64], names: Sequence[str], real: int | None = None
) -> Classes:
    """Of label numbers [rows], by scikit-learn; a share of nothing is 0. Numbers from `real` on are no labels: they are
    confused with and have no figures of their own."""
    t, s = truth.astype(np.int64), said.astype(np.int64)
    present = np.union1d(t, s)
    scored = present if real is None else present[present < real]
    precision, recall, f1, rows = metrics.precision_recall_fscore_support(t, s, labels=scored, zero_division=0.0)
    labels = [
        Label(names[number], int(rows[i]), float(precision[i]), float(recall[i]), float(f1[i]))
        for i, number in enumerate(scored.tolist())
    ]
    table = metrics.confusion_matrix(t, s, labels=present)
    np.fill_diagonal(table, 0)
    wrong = sorted(zip(*np.nonzero(table), strict=True), key=lambda at: -int(table[at]))
    found = [(names[present[i]], names[present[j]], int(table[i, j])) for i, j in wrong]
    return Classes(float(np.mean(f1)), labels, found)
