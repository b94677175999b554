"""Learning-rate schedules as plain functions of the step."""

from __future__ import annotations

import math


def warmup_steps(warmup: float, total: int) -> int:
    """`warmup` as a number of steps: a share of `total` below 1, itself from 1 on."""
    return round(warmup * total) if warmup < 1 else int(warmup)


def factor(schedule: str, step: int, total: int, warmup: int, *, decay: float = 0.2, floor: float = 0.0) -> float:
    """Share of the peak learning rate at optimizer step `step` (from 0) of `total`.

    `decay` is the share of all steps in which wsd falls (Hu et al. 2024, arXiv 2404.06395); `floor` is where the
    falling schedules end.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    start = max(warmup, total - round(decay * total)) if schedule == "wsd" else warmup
    done = min(1.0, max(0, step - start) / max(1, total - start))
    left = 0.5 * (1.0 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0 - done
    return floor + (1.0 - floor) * left
