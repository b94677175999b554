"""BLEU through sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from ...core.messages import Example
from .base import Array
from .over_rows import references

_ORDERS = 4


class Bleu:
    """BLEU (Papineni et al. 2002; Post 2018) in [0, 1]: sacrebleu's score of all rows divided by 100.

    A row holds the answer against all its right answers at once. The score of one row is sacrebleu's of a sentence:
    n-grams longer than the answer are left out.
    """

    name = "bleu"
    uses_reference = True

    def __init__(self, tokenize: str = "13a", lowercase: bool = False) -> None:
        self._library = BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)

    def score(self, prediction: str, reference: str) -> float:
        """Sentence BLEU, in [0, 1]."""
        return self._of_sentence(prediction, [reference])

    def scores(self, predictions: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """Sentence BLEU of each row against all its right answers."""
        return [self._of_sentence(text, references(row)) for text, row in zip(predictions, rows, strict=True)]

    def statistics(self, predictions: Sequence[str], rows: Sequence[Example]) -> Array:
        """[rows, 10]: words said, words of the reference nearest in length, right and all n-grams (n = 1..4)."""
        found = []
        for text, row in zip(predictions, rows, strict=True):
            one = self._library.sentence_score(text, references(row))
            found.append([one.sys_len, one.ref_len, *one.counts, *one.totals])
        return np.array(found, dtype=np.float64).reshape(len(found), 2 + 2 * _ORDERS)

    def figure(self, sums: Array) -> Array:
        """[..., 10] -> [...]: the geometric mean of the four precisions times the penalty for brevity.

        A precision of nothing right is smoothed as sacrebleu does ("exp": a half, a quarter, ... of one n-gram).
        """
        said, wanted = sums[..., 0], sums[..., 1]
        right, all_ = sums[..., 2 : 2 + _ORDERS], sums[..., 2 + _ORDERS :]
        halves = 2.0 ** np.cumsum((right == 0) & (all_ > 0), axis=-1)
        precision = np.where(right > 0, right, 1 / halves) / np.maximum(all_, 1)
        possible = (all_ > 0).all(-1) & (right > 0).any(-1)
        brevity = np.exp(np.minimum(0, 1 - wanted / np.maximum(said, 1)))
        figure: Array = np.where(possible, brevity * np.exp(np.log(precision).mean(-1)), 0.0)
        return figure

    def _of_sentence(self, prediction: str, right: list[str]) -> float:
        return min(1.0, float(self._library.sentence_score(prediction, right).score) / 100)
