"""Root mean square normalisation (Zhang & Sennrich 2019, arXiv 1910.07467, equation 4) that keeps for its backward pass
what it was given and one number a token, where autograd keeps four tensors of the input's size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import native


class _Norm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight, over the last dimension; the division in float32."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, weight, eps = given
        if native.usable(x, weight):
            return _native(ctx, x.contiguous(), weight, eps)
        wide = x.float()
        scale = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        normal = wide * scale if wide is x else wide.mul_(scale)
        out: Tensor = weight * normal.to(x.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight, scale = ctx.saved_tensors
        gradient = gradients[0]
        if not ctx.needs_input_grad[1] and native.usable(x, weight, gradient):
            gradient, of_x = gradient.contiguous(), torch.empty_like(x)
            width = x.shape[-1]
            native.call("norm_backward", x, weight, scale, gradient, of_x, x.numel() // width, width)
            return of_x, None, None
        wide = x.float()
        normal = wide * scale if wide is x else wide.mul_(scale)
        of_weight = (gradient * normal).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        moved = (gradient * weight).float()
        along = (moved * normal).mean(-1, keepdim=True)
        return moved.sub_(normal.mul_(along)).mul_(scale).to(x.dtype), of_weight, None


def _native(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The forward pass in one go."""
    out, scale = torch.empty_like(x), torch.empty(*x.shape[:-1], 1, dtype=torch.float32)
    native.call("norm_forward", x, weight, eps, out, scale, scale.numel(), x.shape[-1])
    ctx.save_for_backward(x, weight, scale)
    return out


class _Forward:
    """The forward pass of one layer."""

    def __init__(self, layer: nn.Module, eps: float):
        self._layer, self._eps = layer, eps

    def __call__(self, hidden_states: Tensor) -> Tensor:
        out: Tensor = _Norm.apply(hidden_states, self._layer.weight, self._eps)  # type: ignore[no-untyped-call]
        return out


def replace(model: nn.Module) -> int:
    """Let every layer that normalises so do it by the function above; how many there are."""
    found = [layer for layer in model.modules() if _same(layer)]
    for layer in found:
        layer.forward = _Forward(layer, float(layer.variance_epsilon))  # type: ignore[arg-type]
    return len(found)


@torch.inference_mode()
def _same(layer: nn.Module) -> bool:
    """Whether a layer computes the same, to the bit; told by what it makes of a few numbers."""
    eps, weight = getattr(layer, "variance_epsilon", None), getattr(layer, "weight", None)
    if not isinstance(eps, float) or not isinstance(weight, Tensor) or list(layer.parameters()) != [weight]:
        return False
    x = torch.linspace(-3, 5, 2 * weight.numel(), dtype=weight.dtype, device=weight.device).view(2, -1)
    try:
        return torch.equal(layer(x), _Norm.apply(x, weight, eps))  # type: ignore[no-untyped-call]
    except (TypeError, RuntimeError):
        return False
