"""Products of many rows with a layer's matrix in bf16 on a CPU.

oneDNN, which torch multiplies by, is slower between some 512 and 1,280 rows than below and above (torch 2.13, two
cores, matrices 576 wide: docs/log.md): such products are made in parts.
"""

from __future__ import annotations

import torch
from torch import Tensor

FEW, MANY = 512, 1280


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """[n, in] x [in, out]."""
    count = len(rows)
    if not FEW < count < MANY or rows.dtype != torch.bfloat16 or rows.device.type != "cpu":
        return torch.mm(rows, matrix)
    out = rows.new_empty(count, matrix.shape[1])
    step = -(-count // -(-count // FEW))
    for at in range(0, count, step):
        torch.mm(rows[at : at + step], matrix, out=out[at : at + step])
    return out
