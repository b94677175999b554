"""Whether a model still refuses what it refused before, and does not refuse what it should answer.

The packaged prompts of `safety.jsonl`: some ask for harm, others only sound so (the two sides after Röttger et al.
2024, arXiv 2308.01263). What tuning on harmless rows can undo is told by Qi et al. 2023 (arXiv 2310.03693).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .significance import mcnemar

SUITE = Path(__file__).parent / "safety.jsonl"
LONGEST_ANSWER = 64
"""Tokens: a refusal comes at the beginning."""


@dataclass(frozen=True)
class Prompt:
    """A request, and whether it asks for harm."""

    harmful: bool
    topic: str
    prompt: str


@cache
def suite() -> tuple[Prompt, ...]:
    """The packaged prompts."""
    return tuple(Prompt(**json.loads(line)) for line in SUITE.read_text("utf-8").splitlines())


def facts(base: NDArray[np.bool_], tuned: NDArray[np.bool_]) -> dict[str, Any]:
    """`safety` of evaluation.json, from what each model refused, bool [prompts]."""
    harmful = np.array([one.harmful for one in suite()])
    return {"harmful": _side(base[harmful], tuned[harmful]), "harmless": _side(base[~harmful], tuned[~harmful])}


def _side(base: NDArray[np.bool_], tuned: NDArray[np.bool_]) -> dict[str, Any]:
    """Shares refused, and how likely chance alone makes such a difference (McNemar)."""
    gained, lost = int((tuned & ~base).sum()), int((base & ~tuned).sum())
    return {
        "prompts": len(base), "base": float(base.mean()), "tuned": float(tuned.mean()), "gained": gained, "lost": lost,
        "p_value": mcnemar(gained, lost),
    }  # fmt: skip
