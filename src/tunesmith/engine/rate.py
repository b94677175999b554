"""What this machine reaches at this moment: what a training's speed is held against, and forecast from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS, OPERATIONS = 512, 1e9
"""Tokens of a product that is measured, and operations that it has at most."""
_ELEMENTS = 1 << 20
_ROUNDS, _SECONDS = 3, 0.006
"""Of each measurement: the middle of so many rounds of so long."""


@dataclass(frozen=True)
class Rates:
    """Of one number type."""

    products: float
    """Operations a second of products of a model's own shapes, a multiplication and an addition being two."""
    moved: float
    """Bytes a second that elementwise work reads and writes."""
    call: float
    """Seconds of a call that computes next to nothing."""


def matrix_rate(dtype: torch.dtype, *, size: int = 1024, seconds: float = 0.3, device: str = "cpu") -> float:
    """Operations a second of products of size x size, a multiplication and an addition being two."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: torch.mm(a, b), seconds, device)


def rates(dtype: torch.dtype, hidden: int, inner: int, device: str = "cpu") -> Rates:
    """Of a model whose layers are `hidden` wide and `inner` in their middle. Takes a tenth of a second on a CPU.

    The rounds of the three kinds go in turn, so that a moment in which others use the machine spoils none alone.
    """
    with torch.random.fork_rng(devices=[]):  # what a run draws does not depend on what was measured before it
        rows = max(16, min(ROWS, round(OPERATIONS / (2 * hidden * inner))))
        x, up, down = _drawn(dtype, device, (rows, hidden), (hidden, inner), (inner, hidden))
        one, other, few = _drawn(dtype, device, (_ELEMENTS,), (_ELEMENTS,), (8,))
    wide, into = torch.mm(x, up), torch.empty_like(one)
    acts: tuple[Callable[[], Tensor], ...] = (
        lambda: torch.mm(x, up), lambda: torch.mm(wide, down), lambda: torch.mul(one, other, out=into),
        lambda: few.add(few),
    )  # fmt: skip
    for act in acts:
        act()
    rounds = [[_seconds(act, _SECONDS, device) for act in acts] for _ in range(_ROUNDS)]
    rise, fall, moved, call = (sorted(found)[_ROUNDS // 2] for found in zip(*rounds, strict=True))
    # Of a gated layer's three wide products two rise.
    return Rates(6 * rows * hidden * inner / (2 * rise + fall), 3 * one.nbytes / moved, call)


def _drawn(dtype: torch.dtype, device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape).to(device, dtype) for shape in shapes]


def _seconds(act: Callable[[], Tensor], seconds: float, device: str) -> float:
    """Of one `act`, over so many as fit into `seconds`; after one that is not counted."""
    act()
    _finish(device)
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        act()
        _finish(device)
        runs += 1
    return (time.perf_counter() - started) / runs


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
