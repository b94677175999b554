"""Several sources under weights."""

from __future__ import annotations

import numpy as np


def repetitions(rows: int, weight: float, seed: int) -> list[int]:
    """How often each of `rows` rows is seen in an epoch, so that the sum is round(rows * weight).

    The whole part of the weight goes to every row; the rest goes to a seeded sample of them.
    """
    whole, part = divmod(round(rows * weight), rows) if rows else (0, 0)
    counts = np.full(rows, whole, dtype=np.int64)
    counts[np.random.default_rng(seed).permutation(rows)[:part]] += 1
    return [int(count) for count in counts]
