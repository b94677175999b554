"""Gated layers, silu(gate) * up (Shazeer 2020, arXiv 2002.05202, SwiGLU), that keep gate and up alone for the backward
pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import native

_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


class _Gated(torch.autograd.Function):
    """Gate and up [..., width] in bf16 on a CPU."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        gate, up = (one.contiguous() for one in given)
        out = torch.empty_like(gate)
        native.call("gated_forward", gate, up, out, gate.numel())
        ctx.save_for_backward(gate, up)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gate, up = ctx.saved_tensors
        found = torch.empty_like(gate), torch.empty_like(up)
        native.call("gated_backward", gate, up, gradients[0].contiguous(), *found, gate.numel())
        return found


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, of one shape."""
    if native.usable(gate, up):
        out: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]
        return out
    return F.silu(gate) * up


class _Forward:
    """The forward pass of one such part of a layer."""

    def __init__(self, layer: Any):
        self._layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        layer = self._layer
        out: Tensor = layer.down_proj(gated(layer.gate_proj(x), layer.up_proj(x)))
        return out


def replace(model: nn.Module) -> int:
    """Let every part of a layer that computes so do it by the function above; how many there are."""
    found = [layer for layer in model.modules() if all(hasattr(layer, name) for name in _PARTS)]
    same = {kind: _same(next(one for one in found if type(one) is kind)) for kind in {type(one) for one in found}}
    found = [layer for layer in found if same[type(layer)] and "forward" not in vars(layer)]
    for layer in found:
        layer.forward = _Forward(layer)
    return len(found)


@torch.inference_mode()
def _same(layer: Any) -> bool:
    """Whether a layer computes the same, to the bit; told by what it makes of a few numbers."""
    weight = getattr(layer.gate_proj, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        return False
    x = torch.linspace(-3, 5, 2 * weight.shape[1], dtype=weight.dtype, device=weight.device).view(1, 2, -1)
    try:
        return torch.equal(layer(x), _Forward(layer)(x))
    except (TypeError, RuntimeError):
        return False
