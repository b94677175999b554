"""Products with a layer's matrix on a CPU: of many rows in bf16, and of few in float32.

Many: oneDNN, which torch multiplies by, is slower between some 512 and 1,280 rows than below and above (torch 2.13, two
cores, matrices 576 wide: docs/log.md): such products are made in parts. And it makes a program of some 0.8 MB for each
shape of a product that it meets, which takes a small model a fifth of its step, and keeps a thousand of them: numbers
of rows that recur spare both (`spare`).

Few: MKL, which torch multiplies by in float32, is slow for some numbers of rows on processors of other makers than its
own: there W x^T is taken in place of x W^T (docs/log.md).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FEW, MANY = 512, 1280
GRAIN, _GRAINS_LOG = 16, 4
ANSWERED = 64
"""Rows, of more than one, up to which a product in float32 is taken the other way."""


def spare(rows: int) -> int:
    """How many rows of no meaning, behind so many, let their number recur: it becomes a multiple of 16, and of a
    sixteenth of the power of two below it."""
    return -rows % max(GRAIN, 1 << max(0, rows.bit_length() - 1 - _GRAINS_LOG))


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """[n, in] x [in, out]."""
    count = len(rows)
    if not FEW < count < MANY or rows.dtype != torch.bfloat16 or rows.device.type != "cpu":
        return torch.mm(rows, matrix)
    out = rows.new_empty(count, matrix.shape[1])
    step = -(-count // -(-count // FEW))
    step += -step % GRAIN
    for at in range(0, count, step):
        torch.mm(rows[at : at + step], matrix, out=out[at : at + step])
    return out


def linear(layer: Any, x: Tensor) -> Tensor:
    """What a linear layer, of whatever kind, makes of x [..., in]."""
    rows = x.shape[:-1].numel()
    if not (1 < rows <= ANSWERED and _plain(layer, x) and _foreign()):
        made: Tensor = layer(x)
        return made
    out = torch.mm(layer.weight, x.reshape(rows, -1).T).T.contiguous()
    return (out if layer.bias is None else out.add_(layer.bias)).view(*x.shape[:-1], -1)


def _plain(layer: Any, x: Tensor) -> bool:
    """Whether it is a layer that answers, in float32 on a CPU, by its product alone."""
    if type(layer) is not nn.Linear or not torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    hooked = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    return not hooked and x.device.type == "cpu" and x.dtype == layer.weight.dtype == torch.float32


@cache
def _foreign() -> bool:
    """Whether MKL multiplies here, and the processor is not of its maker, as far as the system tells."""
    try:
        told = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    there: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return there and "vendor_id" in told and "GenuineIntel" not in told
