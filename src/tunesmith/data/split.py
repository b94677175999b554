"""Validation rows out of training rows without leakage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.messages import Example


def hold_out(examples: Sequence[Example], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of (training, validation) rows, in file order.

    Rows with the same prompt go to the same side, so that no validation answer can be recalled. Whole groups
    are drawn in a seeded order up to `share` of the rows (rounded); one that would exceed it is passed over, so
    that a prompt with very many rows cannot empty the training set. Where share > 0 and there are two groups at
    least one is held out: the smallest, if none fits.
    """
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.prompt_key(), []).append(index)
    if share <= 0 or len(groups) < 2:
        return list(range(len(examples))), []
    members = list(groups.values())
    wanted = max(1, round(share * len(examples)))
    held: list[int] = []
    drawn = [members[group] for group in np.random.default_rng(seed).permutation(len(members))[:-1]]
    for group in drawn:
        if len(held) + len(group) <= wanted:
            held += group
    held = held or min(drawn, key=len)
    kept = set(range(len(examples))) - set(held)
    return sorted(kept), sorted(held)
