"""Learning-rate schedules as plain functions of the step."""

from __future__ import annotations

import math


def warmup_steps(warmup: float, total: int) -> int:
    """`warmup` as a number of steps: a share of `total` below 1, itself from 1 on."""
    return round(warmup * total) if warmup < 1 else int(warmup)


def factor(schedule: str, step: int, total: int, warmup: int) -> float:
    """Share of the peak learning rate at optimizer step `step` (from 0) of `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    if schedule == "linear":
        return max(0.0, 1.0 - done)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
