"""How well a model remembers planted rows: exposure, in bits.

Of a canary and its like with other digits the model's losses give a rank; exposure = log2(how many there are) -
log2(rank) (Carlini et al. 2019, arXiv 1802.08232, section 4.2). It is estimated by sampling, as they do in section 4.3:
beside SAMPLED others at most log2(SAMPLED + 1) bits are seen. A model that has not seen a canary has 1.4 bits on
average, and one bit or less half of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLED = 255
"""Others beside each canary: eight bits can be seen."""

Array = NDArray[np.float64]


def ranks(losses_CS: Array) -> Array:
    """[canaries] from losses [canaries, 1 + others], the canary's own first: 1 is the likeliest; ties count half."""
    own, others = losses_CS[:, :1], losses_CS[:, 1:]
    found: Array = 1 + (others < own).sum(1) + (others == own).sum(1) / 2
    return found


def exposure(losses_CS: Array) -> Array:
    """Bits [canaries]."""
    bits: Array = math.log2(losses_CS.shape[1]) - np.log2(ranks(losses_CS))
    return bits


def facts(base: Array, tuned: Array, codes: Sequence[str], repeats: int) -> dict[str, Any]:
    """`canaries` of evaluation.json, from both models' losses [canaries, 1 + others]. `p_value` is the chance that the
    best rank among the canaries of a model that has seen none is as good as the tuned model's."""
    before, after = exposure(base), exposure(tuned)
    best = float(ranks(tuned).min())
    chance = 1 - (1 - min(1.0, best / tuned.shape[1])) ** len(tuned)
    return {
        "repeats": repeats, "most_bits": math.log2(tuned.shape[1]), "p_value": float(chance),
        "base": _told(before), "tuned": _told(after),
        "rows": [
            {"code": code, "base_bits": float(b), "tuned_bits": float(t)}
            for code, b, t in zip(codes, before, after, strict=True)
        ],
    }  # fmt: skip


def _told(bits: Array) -> dict[str, float]:
    return {"mean_bits": float(bits.mean()), "largest_bits": float(bits.max())}
