"""Accuracy, precision, recall and F1 of answers that are labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...core.messages import Example
from .base import Array


def _label(text: str, *, ignore_case: bool = False) -> str:
    """The label that an answer says: its text, white space around it aside."""
    return text.strip().casefold() if ignore_case else text.strip()


class Accuracy:
    """1 when the answer is the right label."""

    name = "accuracy"
    uses_reference = True

    def __init__(self, *, ignore_case: bool = False):
        self._ignore_case = ignore_case

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0."""
        return float(self.label(prediction) == self.label(reference))

    def label(self, text: str) -> str:
        """What an answer says."""
        return _label(text, ignore_case=self._ignore_case)


class LabelF1:
    """One figure of the confusion counts, as scikit-learn's `precision_recall_fscore_support(labels=...)` has it.

    macro: the mean over labels; micro: of all labels' counts together; weighted: the mean over labels by their rows.
    An answer that is no label is a miss of the right one. A share of nothing is 0. Micro precision and micro recall
    differ by such answers only; micro recall is accuracy.
    """

    uses_reference = True

    def __init__(
        self, name: str, labels: Sequence[str] | Literal["auto"] = "auto", *, ignore_case: bool = False
    ) -> None:  # fmt: skip
        self.name = name
        self._average, _, self._share = name.partition("_")
        self._labels, self._ignore_case = labels, ignore_case

    def score(self, prediction: str, reference: str) -> float:
        """1 where the label is right, else 0."""
        return float(self.label(prediction) == self.label(reference))

    def statistics(self, predictions: Sequence[str], rows: Sequence[Example]) -> Array:
        """[rows, 3 * labels]: for each label whether it is said rightly, said, and right."""
        right = [self.label(row.answer()) for row in rows]
        given = set(right) if self._labels == "auto" else set(map(self.label, self._labels))
        number = {name: i for i, name in enumerate(sorted(given))}
        found = np.zeros((len(rows), len(number), 3))
        for row, (said, wanted) in enumerate(zip(map(self.label, predictions), right, strict=True)):
            if said in number:
                found[row, number[said], 1] = 1
                found[row, number[said], 0] = said == wanted
            if wanted in number:
                found[row, number[wanted], 2] = 1
        return found.reshape(len(rows), -1)

    def figure(self, sums: Array) -> Array:
        """[..., 3 * labels] -> [...]. Labels that no drawn row has or says do not count in a mean over labels."""
        counts = sums.reshape(*sums.shape[:-1], -1, 3)
        if self._average == "micro":
            return self._of(counts.sum(-2))
        shares, wanted = self._of(counts), counts[..., 2]
        present = (counts[..., 1:].sum(-1) > 0).astype(np.float64)
        weights = wanted if self._average == "weighted" else present
        mean: Array = (shares * weights).sum(-1) / np.maximum(weights.sum(-1), 1)
        return mean

    def _of(self, counts: Array) -> Array:
        """[..., 3] -> [...]: the share, of rightly said, said and right."""
        right, said, wanted = counts[..., 0], counts[..., 1], counts[..., 2]
        below = {"precision": said, "recall": wanted, "f1": (said + wanted) / 2}[self._share]
        share: Array = np.where(below > 0, right / np.where(below > 0, below, 1), 0.0)
        return share

    def label(self, text: str) -> str:
        """What an answer says."""
        return _label(text, ignore_case=self._ignore_case)
