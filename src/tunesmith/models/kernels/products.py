"""Products of many rows with a layer's matrix in bf16 on a CPU.

oneDNN, which torch multiplies by, is slower between some 512 and 1,280 rows than below and above (torch 2.13, two
cores, matrices 576 wide: docs/log.md): such products are made in parts. And it makes a program of some 0.8 MB for each
shape of a product that it meets, which takes a small model a fifth of its step, and keeps a thousand of them: numbers
of rows that recur spare both (`spare`).
"""

from __future__ import annotations

import torch
from torch import Tensor

FEW, MANY = 512, 1280
GRAIN, _GRAINS_LOG = 16, 4


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
