"""Logits only where they are wanted.

The vocabulary head is often the dearest layer of a small model, and most positions of a batch (prompts, padding)
need none of its output. A hook in front of the head keeps the wanted positions only. What a model does before the
head (T5's scaling) is done by then, and all that it does behind (soft caps, scaling, a bias for each word) is
elementwise and stays right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .targets import targets


@dataclass(frozen=True)
class Labelled:
    """What a model says of the labelled tokens of a batch, N of them: row by row, in the order of the row's tokens."""

    logits_NV: Tensor
    tokens_N: Tensor
    """The tokens that stand there."""
    weight_N: Tensor
    owner_N: Tensor
    """Index of the batch's row that each belongs to."""
    router_loss: Tensor | None
    """A mixture of experts' load-balancing term, its coefficient included: what transformers adds to the mean loss of
    this batch. None where the base's config.json does not ask for it with `output_router_logits`."""

    def losses(self, smoothing: float = 0.0) -> Tensor:
        """Cross entropy of each token, in nats, computed in float32; `smoothing` is the target's share that goes to all
        tokens of the vocabulary alike."""
        return F.cross_entropy(self.logits_NV.float(), self.tokens_N, reduction="none", label_smoothing=smoothing)


def labelled(model: Any, input_ids_BL: Tensor, attention_mask_BL: Tensor, loss_weight_BL: Tensor) -> Labelled:
    """Run a batch, padded on the right, through a model of either kind; `models.targets` says what each is asked."""
    asked = targets(model, input_ids_BL, attention_mask_BL, loss_weight_BL)
    output = _forward(model, asked.inputs, asked.wanted_RT)
    logits_NV = output.logits.squeeze(0)
    return Labelled(logits_NV, asked.tokens_N, asked.weight_N, asked.owner_N, _router_loss(model, output))


def labelled_packed(model: Any, input_ids_BL: Tensor, positions_BL: Tensor, loss_weight_BL: Tensor) -> Labelled:
    """Run a batch of rows of several sequences through a decoder. Positions begin at 0 in each, and its first token
    has no weight; padding is a sequence too. A router's loss counts padding, of which such rows have little."""
    asked = targets(model, input_ids_BL, torch.ones_like(input_ids_BL), loss_weight_BL)
    output = _forward(model, {"input_ids": input_ids_BL, "position_ids": positions_BL}, asked.wanted_RT)
    logits_NV = output.logits.squeeze(0)
    return Labelled(logits_NV, asked.tokens_N, asked.weight_N, asked.owner_N, _router_loss(model, output))


def logits_at(model: Any, input_ids_BL: Tensor, attention_mask_BL: Tensor, wanted_BL: Tensor) -> Tensor:
    """A decoder's logits [n, vocabulary] at the positions where `wanted` is true, in row-major order."""
    return logits_where(model, {"input_ids": input_ids_BL, "attention_mask": attention_mask_BL}, wanted_BL)


def logits_where(model: Any, inputs: dict[str, Any], wanted_BL: Tensor) -> Tensor:
    """`logits_at` for whatever else a decoder is called with."""
    logits: Tensor = _forward(model, inputs, wanted_BL).logits.squeeze(0)
    return logits


def _forward(model: Any, inputs: dict[str, Any], wanted_BL: Tensor) -> Any:
    """The model's own output, with logits [1, n, vocabulary] at the wanted positions alone."""

    def keep(_: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BLD = args[0]
        return (hidden_BLD[wanted_BL].unsqueeze(0), *args[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        return model(**inputs, use_cache=False)
    finally:
        hook.remove()


def without_router_loss(model: Any) -> dict[str, Any]:
    """What a call needs beside its inputs so that a mixture of experts computes no router loss."""
    return {"output_router_logits": False} if getattr(model.config, "output_router_logits", False) else {}


def _router_loss(model: Any, output: Any) -> Tensor | None:
    """Coefficient x load-balancing loss (Fedus et al. 2021, arXiv 2101.03961, equations 4 to 6), padding left out.

    transformers computes the second factor where the config says `output_router_logits`, and no other base has one.
    """
    balance = getattr(output, "aux_loss", None)
    if not isinstance(balance, Tensor):
        return None
    owners = (model, model.config.get_text_config())  # models of text and images keep it in the text's part
    coefficient = next(o.router_aux_loss_coef for o in owners if hasattr(o, "router_aux_loss_coef"))
    return balance * float(coefficient)
