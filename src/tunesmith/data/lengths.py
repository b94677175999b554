"""How long rows are in tokens: a histogram with readable borders, the tokens of an epoch, the rows over the limit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 12
BULK = 0.99
"""The share of rows that the even bins cover; what is far longer stands together in the last bin."""


@dataclass(frozen=True)
class Lengths:
    """Bin i holds the `counts[i]` rows of edges[i] to edges[i + 1] - 1 tokens."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    tokens_per_epoch: int
    """Of the rows that are trained on, each up to the limit and as often as it comes."""
    limit: int
    over_limit: int
    """Rows longer than the limit."""

    @staticmethod
    def of(tokens: NDArray[np.integer[Any]], limit: int) -> Lengths:
        """From the token count of each row, before any is cut; an epoch is all of them once, each up to the limit."""
        if not len(tokens):
            return Lengths((), (), 0, limit, 0)
        edges = _edges(tokens)
        counts, _ = np.histogram(tokens, bins=edges)
        epoch = int(np.minimum(tokens, limit).sum(dtype=np.int64))
        return Lengths(tuple(edges), tuple(counts.tolist()), epoch, limit, int((tokens > limit).sum()))

    def as_json(self) -> dict[str, Any]:
        """The `lengths` of `data-audit.json`."""
        return asdict(self)


def _edges(tokens: NDArray[np.integer[Any]]) -> list[int]:
    """At most 13 borders at multiples of 1, 2 or 5 times a power of ten; the last bin may be wider than the others."""
    shortest, bulk, longest = (int(np.quantile(tokens, q, method="higher")) for q in (0, BULK, 1))
    step = _step(shortest, bulk, BINS)
    if longest <= bulk + step * 2:
        step, bulk = _step(shortest, longest, BINS), longest
    edges = list(range(shortest // step * step, bulk + step + 1, step))
    return edges if longest < edges[-1] else [*edges, longest + 1]


def _step(shortest: int, longest: int, bins: int) -> int:
    """The least readable width with which so many bins reach from one to the other."""
    widths = (digit * 10**power for power in range(20) for digit in (1, 2, 5))
    return next((w for w in widths if longest // w - shortest // w + 1 <= bins), longest)
