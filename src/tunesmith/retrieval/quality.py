"""How well documents are found, on questions of which it is known which documents answer them.

A document's rank is that of its best chunk (MaxP: Dai and Callan 2019, arXiv 1905.09217, section 3), so k counts
documents.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence


def recall(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """The share of the relevant documents that are among the first `k`: 0 to 1."""
    return len(set(ranked[:k]) & set(relevant)) / len(set(relevant))


def reciprocal_rank(ranked: Sequence[str], relevant: Collection[str]) -> float:
    """1 / the rank of the first relevant document, 0 without one; the mean over questions is MRR (Voorhees 1999)."""
    return next((1 / rank for rank, found in enumerate(ranked, start=1) if found in relevant), 0.0)


def ndcg(ranked: Sequence[str], gains: Mapping[str, float], k: int) -> float:
    """Normalised discounted cumulative gain of the first `k`: 0 to 1.

    DCG = sum over ranks r of gain / log2(r + 1), divided by that of the best order: Järvelin and Kekäläinen 2002,
    "Cumulated gain-based evaluation of IR techniques", with the discount of Burges et al. 2005 and gains as they are.
    `gains` has every relevant document, at least one above 0.
    """
    best = _dcg(sorted(gains.values(), reverse=True)[:k])
    return _dcg([gains.get(found, 0.0) for found in ranked[:k]]) / best


def _dcg(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
