"""The low-rank addition of a layer where nothing learns from it: a model that answers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FEW = 256
"""Tokens at once up to which a product of two narrow matrices is mostly the call of it, and that is cheaper in float32:
on a CPU such a call costs several times as much in bf16."""


def plus(out: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """out + scale up down x, where `out` [..., out] may be overwritten; x is [..., in], A (`down`) [r, in], B (`up`)
    [out, r], both in float32."""
    if x.device.type == "cpu" and torch.is_inference_mode_enabled() and x.shape[:-1].numel() <= FEW:
        return out.add_(F.linear(F.linear(x.float(), down), up), alpha=scale)
    low = F.linear(x, down.to(x.dtype)) * scale
    return out + F.linear(low, up.to(x.dtype))
