"""Whether a model repeats its training rows, and whether its losses tell which rows it was trained on.

Two signs, both told for the base as well, which has not seen the rows:

- verbatim: asked a training row's prompt, how long a stretch of the row's own answer comes back, in tokens in a row
  (Carlini et al. 2023, arXiv 2202.07646, take 50 as memorised);
- membership: how well the loss tells training rows from held-out ones: the area under the ROC curve, and the share of
  training rows found while one held-out row in a hundred is taken for one (Yeom et al. 2018, arXiv 1709.01604; the low
  false-positive rate after Carlini et al. 2022, arXiv 2112.03570). `against_base` subtracts the base's loss, by which
  easy rows no longer look like known ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.later import later

metrics = later("sklearn.metrics")

MEMORISED = 50
"""Tokens in a row."""
FALSE_POSITIVES = 0.01
_RESAMPLES = 500

Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """One model on a sample of training rows: `losses` [rows], nats a token; of the first of them, whose prompts were
    asked, the longest stretch of the row's answer that came back, `runs` [asked], and `whole` of them, its length."""

    losses: Losses
    runs: NDArray[np.int64]
    whole: NDArray[np.int64]


@dataclass(frozen=True)
class Membership:
    """How well a score tells training rows from held-out ones; 0.5 and 0.01 are chance. `ci95` is of the AUC."""

    auc: float
    ci95: tuple[float, float]
    tpr_at_1_fpr: float


def drawn(rows: int, most: int, seed: int) -> list[int]:
    """Places of at most so many training rows."""
    if rows <= most:
        return list(range(rows))
    return sorted(np.random.default_rng(seed).choice(rows, most, replace=False).tolist())


def longest_run(said: Sequence[int], known: Sequence[int]) -> int:
    """Length of the longest stretch of tokens that both have, in a row."""
    if not len(said) or not len(known):
        return 0
    other = np.asarray(known)
    before, longest = np.zeros(len(other), dtype=np.int64), 0
    for token in said:
        ends = np.where(other == token, 1 + np.append(0, before[:-1]), 0)
        longest = max(longest, int(ends.max()))
        before = ends
    return longest


def membership(members: Losses, others: Losses, seed: int) -> Membership:
    """Lower losses taken for membership; the interval by bootstrap over both kinds of rows."""
    truth = np.repeat([True, False], [len(members), len(others)])
    auc = float(metrics.roc_auc_score(truth, -np.concatenate((members, others))))
    draw, drawn_auc = np.random.default_rng(seed), []
    for _ in range(_RESAMPLES):
        a, b = (losses[draw.integers(0, len(losses), len(losses))] for losses in (members, others))
        drawn_auc.append(_auc(a, b))
    low, high = np.percentile(drawn_auc, [2.5, 97.5])
    wrong, right, _ = metrics.roc_curve(truth, -np.concatenate((members, others)))
    return Membership(auc, (float(low), float(high)), float(right[wrong <= FALSE_POSITIVES].max()))


def _auc(members: Losses, others: Losses) -> float:
    """By ranks (Mann and Whitney 1947), ties counted half; scikit-learn's checks would take most of the time."""
    ordered = np.sort(others)
    above = len(ordered) - np.searchsorted(ordered, members, "right")
    level = np.searchsorted(ordered, members, "right") - np.searchsorted(ordered, members, "left")
    return float((above + 0.5 * level).sum() / (len(members) * len(others)))


def facts(base: Seen, tuned: Seen, base_others: Losses, tuned_others: Losses, seed: int) -> dict[str, Any]:
    """`memorisation` of evaluation.json. The held-out losses are [test rows]; fewer than two rows of a kind tell
    nothing, and then there is no `membership`."""
    found: dict[str, Any] = {
        "verbatim": {
            "rows": len(tuned.runs),
            "memorised": MEMORISED,
            "base": _verbatim(base),
            "tuned": _verbatim(tuned),
        }
    }
    if min(len(tuned.losses), len(tuned_others)) > 1:
        scores = {
            "base": (base.losses, base_others),
            "tuned": (tuned.losses, tuned_others),
            "against_base": (tuned.losses - base.losses, tuned_others - base_others),
        }
        found["membership"] = {"rows": len(tuned.losses), "held_out": len(tuned_others)} | {
            name: vars(membership(*both, seed)) for name, both in scores.items()
        }
    return found


def _verbatim(seen: Seen) -> dict[str, Any]:
    """The longest stretch, the share of rows of which a long one came back, and the mean share of an answer."""
    if not len(seen.runs):
        return {"longest": 0, "share_over": 0.0, "mean_share": 0.0}
    return {
        "longest": int(seen.runs.max()),
        "share_over": float(np.mean(seen.runs >= MEMORISED)),
        "mean_share": float(np.mean(seen.runs / np.maximum(seen.whole, 1))),
    }
