"""Whether the base may have seen the test rows before: a signal from its losses, no proof.

Training and test rows are of one kind, and an honest base has seen neither. Where it finds the answers of test rows
likelier than those of training rows, or some of them far likelier, it may have read them, as published test sets often
were (Sainz et al. 2023, arXiv 2310.18018); or they are easier. Leakage between the files is another matter, which the
data check finds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.later import later
from .memorisation import membership

stats = later("scipy.stats")

RARE = 0.01
"""The share of training rows below whose highest loss a test row is far likelier than is usual."""
SURE = 0.01
"""Of a sign that is no chance."""
MOST_NAMED = 20
FEWEST = 20
"""Rows of each kind below which nothing is said."""

Losses = NDArray[np.float64]


def facts(train: Losses, test: Losses, seed: int) -> dict[str, Any] | None:
    """`contamination` of evaluation.json, from the base's mean losses a token of a sample of training rows and of the
    test rows, in nats; None of too few rows.

    `auc`: how well low loss tells test rows from training rows; 0.5 where they are alike. `far_likelier`: the test rows
    whose loss is below that of all but a hundredth of the training rows, and the chance of so many.
    """
    if min(len(train), len(test)) < FEWEST:
        return None
    told = membership(test, train, seed)
    limit = float(np.quantile(train, RARE, method="lower"))
    below = np.flatnonzero(test < limit)
    # Of so few training rows the share below the limit is itself uncertain: the rule of succession is on the safe side.
    usual = (float((train < limit).sum()) + 1) / (len(train) + 2)
    chance = float(stats.binomtest(len(below), len(test), usual, alternative="greater").pvalue)
    named = below[np.argsort(test[below])][:MOST_NAMED].tolist()
    return {
        "rows": len(test), "training_rows": len(train), "auc": told.auc, "ci95": list(told.ci95),
        "far_likelier": len(below), "p_value": chance, "indices": named,
        "suspected": told.ci95[0] > 0.5 or chance < SURE,
    }  # fmt: skip
