"""A frozen linear layer with a low-rank addition: W x + scale B A x."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.kernels.products import product

FEW = 256
"""Tokens at once up to which a product of two narrow matrices is mostly the call of it, and that is cheaper in float32:
on a CPU such a call costs several times as much in bf16."""


class _Adapted(torch.autograd.Function):
    """x [..., in], W [out, in] and bias [out] or None, which learn nothing, A [r, in] and B [out, r] in float32.

    Beside x it keeps A x, r numbers a token; A and B are cast once, and the addition is written into W x.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, weight, bias, down, up, scale = given
        flat, down, up = x.reshape(-1, x.shape[-1]), down.to(x.dtype), up.to(x.dtype)
        low = torch.mm(flat, down.T)
        out = product(flat, weight.T).addmm_(low, up.T, alpha=scale)
        if bias is not None:
            out.add_(bias)
        ctx.save_for_backward(flat, weight, down, up, low)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight, down, up, low = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, len(up))
        of_low = torch.mm(gradient, up).mul_(ctx.scale)
        of_down, of_up = torch.mm(of_low.T, x).float(), torch.mm(gradient.T, low).mul_(ctx.scale).float()
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = product(gradient, weight).addmm_(of_low, down).view(ctx.shape)
        return of_x, None, None, of_down, of_up, None


def adapted(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """W x + bias + scale B A x, for x [..., in] of W's type; W and bias are frozen, A (`down`) [r, in] and B (`up`)
    [out, r] in float32."""
    out: Tensor = _Adapted.apply(x, weight, bias, down, up, scale)  # type: ignore[no-untyped-call]
    return out


def plus(out: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """out + scale up down x, where `out` [..., out] may be overwritten; x is [..., in], A (`down`) [r, in], B (`up`)
    [out, r], both in float32."""
    if x.device.type == "cpu" and torch.is_inference_mode_enabled() and x.shape[:-1].numel() <= FEW:
        return out.add_(F.linear(F.linear(x.float(), down), up), alpha=scale)
    low = F.linear(x, down.to(x.dtype)) * scale
    return out + F.linear(low, up.to(x.dtype))
