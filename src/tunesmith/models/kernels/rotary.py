"""Rotary positions (Su et al. 2021, arXiv 2104.09864, section 3.4.2) of queries and keys, the halves of a head turned
against each other.

transformers' models call a function of their own module for it; that name is given another function, which computes the
same and falls back on the first wherever it is not bf16 on a CPU or somebody is answered (inference mode).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from . import native

_NAME = "apply_rotary_pos_emb"


class _Rotated(torch.autograd.Function):
    """x [B, H, L, D] in bf16, cosine and sine [B or 1, L, D] in float32."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, cosine, sine = given
        ctx.save_for_backward(cosine, sine)
        return _turned(x, cosine, sine, torch.empty(x.shape, dtype=x.dtype), back=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        batch, heads, length, width = gradients[0].shape
        # As the layer before made it: heads behind each other.
        out = torch.empty(batch, length, heads, width, dtype=gradients[0].dtype).transpose(1, 2)
        cosine, sine = ctx.saved_tensors
        return _turned(gradients[0], cosine, sine, out, back=True), None, None


def _turned(x: Tensor, cosine: Tensor, sine: Tensor, out: Tensor, *, back: bool) -> Tensor:
    x = x if x.stride(-1) == 1 else x.contiguous()
    batch, heads, length, width = x.shape
    step = 0 if len(cosine) == 1 else length * width
    native.call(
        "rotate", x, x.stride(), cosine, sine, step, out, out.stride(), batch, heads, length, width // 2, back
    )  # fmt: skip
    return out


class _Rotary:
    """In place of a model's own function."""

    def __init__(self, own: Callable[..., tuple[Tensor, Tensor]]):
        self._own = own

    def __call__(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *more: Any, **named: Any) -> Any:
        if more or named or not _ours(q, k, cos, sin):
            return self._own(q, k, cos, sin, *more, **named)
        wide = (cos.float().contiguous(), sin.float().contiguous())
        return tuple(_Rotated.apply(one, *wide) for one in (q, k))  # type: ignore[no-untyped-call]


def _ours(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether this is learning in bf16, with an angle for each pair of a head's numbers."""
    alike = cos.shape == sin.shape and cos.ndim == 3 and cos.shape[1:] == (q.shape[2], q.shape[3])
    known = alike and q.shape[-1] == k.shape[-1] and len(cos) in {1, len(q)} and cos.dtype in _narrowed()
    return known and native.usable(q, k)


def _narrowed() -> tuple[torch.dtype, ...]:
    """Types of cosines beside which the result is of the queries' type, at the latest where attention takes it."""
    return (torch.bfloat16, torch.float32) if torch.is_autocast_enabled("cpu") else (torch.bfloat16,)


def replace(model: nn.Module) -> int:
    """Give the modules that the model's layers come from the function above; how many there are."""
    modules = {type(layer).__module__ for layer in model.modules()}
    found = [sys.modules[name] for name in sorted(modules) if callable(getattr(sys.modules[name], _NAME, None))]
    found = [module for module in found if not isinstance(getattr(module, _NAME), _Rotary)]
    found = [module for module in found if _same(getattr(module, _NAME))]
    for module in found:
        setattr(module, _NAME, _Rotary(getattr(module, _NAME)))
    return len(found)


def _same(own: Callable[..., Any]) -> bool:
    """Whether a function turns halves against each other; told by what it makes of a few numbers."""
    x = torch.linspace(-3, 5, 48).view(1, 2, 3, 8)
    cos, sin = (torch.linspace(*ends, 12).view(1, 3, 4).repeat(1, 1, 2) for ends in ((-1, 1), (2, 1)))
    first, second = x.chunk(2, -1)
    wanted = x * cos.unsqueeze(1) + torch.cat((-second, first), -1) * sin.unsqueeze(1)
    try:
        found = own(x, x.clone(), cos, sin)
        return len(found) == 2 and all(torch.equal(one, wanted) for one in found)
    except (TypeError, RuntimeError, IndexError):
        return False
