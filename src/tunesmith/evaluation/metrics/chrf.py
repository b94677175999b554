"""chrF through sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from sacrebleu.metrics.chrf import CHRF

from ...core.messages import Example
from .base import Array
from .over_rows import references


class Chrf:
    """chrF (Popović 2015) in [0, 1]: sacrebleu's score of all rows divided by 100.

    Where a row has several right answers, the one that fits best counts, as in sacrebleu.
    """

    uses_reference = True

    def __init__(self, name: str = "chrf", char_order: int = 6, word_order: int = 0, beta: int = 2) -> None:
        self.name, self._factor = name, beta**2
        self._library = CHRF(char_order=char_order, word_order=word_order, beta=beta)

    def score(self, prediction: str, reference: str) -> float:
        """chrF of one answer, in [0, 1]."""
        return min(1.0, float(self._library.sentence_score(prediction, [reference]).score) / 100)

    def statistics(self, predictions: Sequence[str], rows: Sequence[Example]) -> Array:
        """[rows, 3 * orders]: n-grams said, of the reference, and common to both, for each order."""
        by_rank = list(zip_longest(*(references(row) for row in rows)))
        counts = self._library._extract_corpus_statistics(list(predictions), by_rank)
        return np.array(counts, dtype=np.float64)

    def figure(self, sums: Array) -> Array:
        """[..., 3 * orders] -> [...]: F-beta of precision and recall, each the mean over the orders that both have."""
        said, wanted, common = (sums[..., part::3] for part in range(3))
        both = (said > 0) & (wanted > 0)
        orders = np.maximum(both.sum(-1), 1)
        precision = np.where(both, common / np.maximum(said, 1), 0).sum(-1) / orders
        recall = np.where(both, common / np.maximum(wanted, 1), 0).sum(-1) / orders
        below = self._factor * precision + recall
        figure: Array = (1 + self._factor) * precision * recall / np.where(below > 0, below, 1)
        return figure
