"""Validation rows out of training rows without leakage, and overlaps between files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.messages import Example


def hold_out(examples: Sequence[Example], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of (training, validation) rows, in file order.

    Rows with the same prompt go to the same side, so that no validation answer can be recalled. Whole groups
    are drawn in a seeded order until `share` of the rows (rounded, at least one where share > 0 and there are
    two groups) is held out.
    """
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.prompt_key(), []).append(index)
    if share <= 0 or len(groups) < 2:
        return list(range(len(examples))), []
    members = list(groups.values())
    wanted = max(1, round(share * len(examples)))
    held: list[int] = []
    for group in np.random.default_rng(seed).permutation(len(members))[:-1]:
        if len(held) >= wanted:
            break
        held += members[group]
    kept = set(range(len(examples))) - set(held)
    return sorted(kept), sorted(held)


def overlapping(examples: Sequence[Example], held_out: Sequence[Example]) -> list[tuple[int, int]]:
    """Pairs (index in `examples`, index in `held_out`) with equal prompts, one pair for each such example."""
    first: dict[str, int] = {}
    for index, example in enumerate(held_out):
        first.setdefault(example.prompt_key(), index)
    return [(i, first[key]) for i, e in enumerate(examples) if (key := e.prompt_key()) in first]
