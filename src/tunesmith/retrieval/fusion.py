"""Several rankings of the same things to one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

K = 60
"""How much less the first place is worth than its rank alone would say; the paper's choice."""


def fused(rankings: Iterable[Sequence[int]], k: int = K) -> list[tuple[int, float]]:
    """(thing, score) by reciprocal rank fusion, the best first; of equal ones the lower number.

    score(d) = sum over the rankings that hold d of 1 / (k + rank of d), the first of a ranking having rank 1: Cormack,
    Clarke and Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
    SIGIR, section 1.
    """
    scores: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, thing in enumerate(ranking, start=1):
            scores[thing] += 1 / (k + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
