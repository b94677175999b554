"""Cross entropy of tokens under a vocabulary's head, a few hundred tokens at a time.

The logits of a whole batch, tokens x vocabulary in float32 and more than once, are often the largest thing that a small
model's step holds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TOKENS_AT_ONCE = 256


class _Losses(torch.autograd.Function):
    """Hidden states [N, D], weight [V, D], bias [V] or None, tokens [N]: losses [N] in nats, float32.

    The gradient of a token's loss by its hidden state, (softmax - one-hot) W, is known as soon as its logits are: it is
    kept [N, D] in place of them, and scaled by what comes back.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        hidden, weight, bias, tokens = given
        losses = torch.empty(len(tokens), dtype=torch.float32, device=hidden.device)
        moved = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for at in range(0, len(tokens), TOKENS_AT_ONCE):
            part = slice(at, at + TOKENS_AT_ONCE)
            logits = torch.nn.functional.linear(hidden[part], weight, bias).float()
            own = tokens[part].unsqueeze(1)
            logits.sub_(logits.amax(-1, keepdim=True))
            said = logits.gather(1, own)
            total = logits.exp_().sum(-1, keepdim=True)
            losses[part] = (total.log() - said).squeeze(1)
            if moved is not None:
                chances = logits.div_(total)
                chances.scatter_add_(1, own, chances.new_full(own.shape, -1.0))
                torch.mm(chances.to(weight.dtype), weight, out=moved[part])
        ctx.save_for_backward(moved)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (moved,) = ctx.saved_tensors
        return (moved * gradients[0].unsqueeze(1)).to(moved.dtype), None, None, None


def losses(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, tokens_N: Tensor) -> Tensor:
    """Cross entropy [N] of each token in nats, float32, of a head that learns nothing itself."""
    found: Tensor = _Losses.apply(hidden_ND, weight_VD, bias_V, tokens_N)  # type: ignore[no-untyped-call]
    return found
