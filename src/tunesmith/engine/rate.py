"""What this machine's matrix products reach: what a training's speed is held against."""

from __future__ import annotations

import time

import torch


def matrix_rate(dtype: torch.dtype, *, size: int = 1024, seconds: float = 0.3, device: str = "cpu") -> float:
    """Operations a second of products of size x size, a multiplication and an addition being two."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    torch.mm(a, b)
    _finish(device)
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        torch.mm(a, b)
        _finish(device)
        runs += 1
    return 2 * size**3 * runs / (time.perf_counter() - started)


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
