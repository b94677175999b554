"""Which short texts may be nearly alike, from the pairs of letters that they share: a bound, so that none is missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..core.later import later

sparse = later("scipy.sparse")

_AT_ONCE = 256
_EDGE = "\n"


def candidates(texts: Sequence[str], others: Sequence[str], ratio: float) -> Iterator[list[int]]:
    """For each text the places of the others whose ratio of matching letters may reach `ratio`, in order.

    The ratio is 2M / (a + b) for M letters that match, in order, of texts of a and b letters (Ratcliff and Metzener
    1988, and difflib). At least `ratio` leaves u <= (1 - ratio) (a + b) letters unmatched, so the matching ones stand
    in at most u + 1 stretches and hold M - u - 1 pairs of neighbours: both texts have those. Shared pairs are counted
    as multisets by a sparse product, a block of texts at a time.
    """
    known: dict[tuple[str, str, int], int] = {}
    left, right = _pairs(texts, known), _pairs(others, known)
    lengths, widths = (np.array([len(t) for t in side], dtype=np.int64) for side in (texts, others))
    shape = max(len(known), 1)
    theirs = _matrix(right, shape).T.tocsc()
    for begin in range(0, len(texts), _AT_ONCE):
        block = (_matrix(left[begin : begin + _AT_ONCE], shape) @ theirs).tocsr()
        block.sort_indices()
        for row, length in enumerate(lengths[begin : begin + _AT_ONCE].tolist()):
            part = slice(block.indptr[row], block.indptr[row + 1])
            places = block.indices[part]
            both = length + widths[places]
            least = (ratio / 2 - (1 - ratio)) * both - 1
            near = (block.data[part] >= least) & (2 * np.minimum(length, widths[places]) >= ratio * both)
            yield places[near].tolist()


def _pairs(texts: Sequence[str], known: dict[tuple[str, str, int], int]) -> list[list[int]]:
    """Numbers of each text's pairs of neighbouring letters, its edges included; the second of a kind is another."""
    found = []
    for text in texts:
        seen: Counter[tuple[str, str]] = Counter()
        mine = []
        for pair in pairwise(f"{_EDGE}{text}{_EDGE}"):
            seen[pair] += 1
            mine.append(known.setdefault((*pair, seen[pair]), len(known)))
        found.append(mine)
    return found


def _matrix(rows: Sequence[Sequence[int]], width: int) -> Any:
    """One where a text has a pair, [texts, pairs]."""
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter((column for row in rows for column in row), dtype=np.int64, count=int(ends[-1]))
    return sparse.csr_matrix((np.ones(len(columns), dtype=np.int32), columns, ends), shape=(len(rows), width))
