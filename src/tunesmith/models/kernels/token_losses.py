"""Cross entropy of tokens under a vocabulary's head, a few hundred tokens at a time.

The logits of a whole batch, tokens x vocabulary in float32 and more than once, are often the largest thing that a small
model's step holds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import native

TOKENS_AT_ONCE = 256
_GRAIN = 32
"""Numbers of tokens are multiples of it, so that they recur: see `products.spare`."""


class _Losses(torch.autograd.Function):
    """Hidden states [N, D], weight [V, D], bias [V] or None, tokens [N]: losses [N] in nats, float32.

    The gradient of a token's loss by its hidden state, (softmax - one-hot) W, is known as soon as its logits are: it is
    kept [N, D] in place of them, and scaled by what comes back. Only for a weight that learns are they made again.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        hidden, weight, bias, tokens = given
        losses = torch.empty(len(tokens), dtype=torch.float32, device=hidden.device)
        moved = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for part in _parts(len(tokens)):
            losses[part], rise = _said(hidden[part], weight, bias, tokens[part], moved is not None)
            if moved is not None and rise is not None:
                torch.mm(rise.to(weight.dtype), weight, out=moved[part])
        ctx.save_for_backward(moved, *given)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        moved, hidden, weight, bias, tokens = ctx.saved_tensors
        scale = gradients[0].unsqueeze(1)
        of_hidden = None if moved is None else (moved * scale).to(moved.dtype)
        _, learns, shifts, _ = ctx.needs_input_grad
        of_weight = torch.zeros_like(weight) if learns else None
        of_bias = torch.zeros_like(bias) if shifts else None
        for part in _parts(len(tokens)) if learns or shifts else ():
            rise = _said(hidden[part], weight, bias, tokens[part], True)[1]
            assert rise is not None  # noqa: S101
            rise = rise.mul_(scale[part])
            if of_weight is not None:
                of_weight.addmm_(rise.to(weight.dtype).T, hidden[part])
            if of_bias is not None:
                of_bias.add_(rise.sum(0))
        return of_hidden, of_weight, of_bias, None


def _parts(tokens: int) -> list[slice]:
    return [slice(at, at + TOKENS_AT_ONCE) for at in range(0, tokens, TOKENS_AT_ONCE)]


def _said(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, learns: bool
) -> tuple[Tensor, Tensor | None]:
    """(losses [n] in float32, their gradient by the logits [n, V] where something learns)."""
    made = torch.nn.functional.linear(hidden, weight, bias)
    if native.usable(made):
        losses = torch.empty(len(tokens), dtype=torch.float32)
        native.call("token_losses", made, tokens.contiguous(), losses, *made.shape, learns)
        return losses, made if learns else None
    logits, own = made.float(), tokens.unsqueeze(1)
    logits.sub_(logits.amax(-1, keepdim=True))
    said = logits.gather(1, own)
    total = logits.exp_().sum(-1, keepdim=True)
    losses = (total.log() - said).squeeze(1)
    if not learns:
        return losses, None
    chances = logits.div_(total)
    return losses, chances.scatter_add_(1, own, chances.new_full(own.shape, -1.0))


def losses(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, tokens_N: Tensor) -> Tensor:
    """Cross entropy [N] of each token in nats, float32. Under autocast the products are of its number type."""
    kind = hidden_ND.device.type
    if torch.is_autocast_enabled(kind):
        to = torch.get_autocast_dtype(kind)
        hidden_ND, weight_VD = hidden_ND.to(to), weight_VD.to(to)
        bias_V = None if bias_V is None else bias_V.to(to)
    count = len(tokens_N)
    if kind == "cpu" and hidden_ND.dtype == torch.bfloat16 and (spare := -count % _GRAIN):
        hidden_ND, tokens_N = (
            torch.nn.functional.pad(hidden_ND, (0, 0, 0, spare)),
            torch.nn.functional.pad(tokens_N, (0, spare)),
        )
    with torch.autocast(kind, enabled=False):
        found: Tensor = _Losses.apply(hidden_ND, weight_VD, bias_V, tokens_N)  # type: ignore[no-untyped-call]
    return found[:count]
