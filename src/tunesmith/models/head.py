"""Logits only where they are wanted.

The vocabulary head is often the dearest layer of a small model, and most positions of a batch (prompts, padding)
need none of its output. A hook in front of the head keeps the wanted positions only. What a model does before the
head (T5's scaling) is done by then, and all that it does behind (soft caps, scaling, a bias for each word) is
elementwise and stays right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import line
from .kernels import token_losses
from .targets import targets
from .trunk import run

_BARE = "tunesmith_bare_head"


class Said(Protocol):
    """What a model says at N places."""

    def logits(self) -> Tensor:
        """[N, vocabulary]."""

    def at(self, places_M: Tensor) -> Said:
        """The same at some of the places, or at some of them more than once."""

    def losses(self, tokens_N: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross entropy of a token at each place, in nats, computed in float32; `smoothing` is the target's share that
        goes to all tokens of the vocabulary alike."""


@dataclass(frozen=True)
class Spoken:
    """Logits that are there."""

    logits_NV: Tensor

    def logits(self) -> Tensor:
        """See `Said`."""
        return self.logits_NV

    def at(self, places_M: Tensor) -> Spoken:
        """See `Said`."""
        return Spoken(self.logits_NV[places_M])

    def losses(self, tokens_N: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Said`."""
        return F.cross_entropy(self.logits_NV.float(), tokens_N, reduction="none", label_smoothing=smoothing)


@dataclass(frozen=True)
class Unspoken:
    """What a head would make logits of; for losses it need not, but for a few at a time."""

    hidden_ND: Tensor
    head: nn.Linear

    def logits(self) -> Tensor:
        """See `Said`."""
        logits: Tensor = self.head(self.hidden_ND)
        return logits

    def at(self, places_M: Tensor) -> Unspoken:
        """See `Said`."""
        return Unspoken(self.hidden_ND[places_M], self.head)

    def losses(self, tokens_N: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Said`."""
        if smoothing:
            return Spoken(self.logits()).losses(tokens_N, smoothing)
        return token_losses.losses(self.hidden_ND, self.head.weight, self.head.bias, tokens_N)


@dataclass(frozen=True)
class Labelled:
    """What a model says of the labelled tokens of a batch, N of them: row by row, in the order of the row's tokens."""

    said: Said
    tokens_N: Tensor
    """The tokens that stand there."""
    weight_N: Tensor
    owner_N: Tensor
    """Index of the batch's row that each belongs to."""
    router_loss: Tensor | None
    """A mixture of experts' load-balancing term, its coefficient included: what transformers adds to the mean loss of
    this batch. None where the base's config.json does not ask for it with `output_router_logits`."""

    def losses(self, smoothing: float = 0.0) -> Tensor:
        """Cross entropy of each token; see `Said`."""
        return self.said.losses(self.tokens_N, smoothing)


def labelled(model: Any, input_ids_BL: Tensor, attention_mask_BL: Tensor, loss_weight_BL: Tensor) -> Labelled:
    """Run a batch, padded on the right, through a model of either kind; `models.targets` says what each is asked."""
    asked = targets(model, input_ids_BL, attention_mask_BL, loss_weight_BL)
    said, router = _forward(model, asked.inputs, asked.wanted_RT)
    return Labelled(said, asked.tokens_N, asked.weight_N, asked.owner_N, router)


def labelled_packed(model: Any, input_ids_BL: Tensor, positions_BL: Tensor, loss_weight_BL: Tensor) -> Labelled:
    """Run a batch of rows of several sequences through a decoder. Positions begin at 0 in each, and its first token
    has no weight; padding is a sequence too. A router's loss counts padding, of which such rows have little."""
    asked = targets(model, input_ids_BL, torch.ones_like(input_ids_BL), loss_weight_BL)
    said, router = _forward(model, {"input_ids": input_ids_BL, "position_ids": positions_BL}, asked.wanted_RT)
    return Labelled(said, asked.tokens_N, asked.weight_N, asked.owner_N, router)


def logits_at(model: Any, input_ids_BL: Tensor, attention_mask_BL: Tensor, wanted_BL: Tensor) -> Tensor:
    """A decoder's logits [n, vocabulary] at the positions where `wanted` is true, in row-major order."""
    return said_where(model, {"input_ids": input_ids_BL, "attention_mask": attention_mask_BL}, wanted_BL).logits()


def said_where(model: Any, inputs: dict[str, Any], wanted_BL: Tensor) -> Said:
    """What a decoder, called with whatever it is, says at the positions where `wanted` is true, in row-major order."""
    return _forward(model, inputs, wanted_BL)[0]


def note_bare_head(model: Any) -> None:
    """See whether a decoder does nothing behind its head, by what it makes of two tokens, and note it on the model.

    Logits then need not be made where only losses are wanted.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or model.config.is_encoder_decoder:
        return
    given: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    try:
        with torch.no_grad():
            ids = torch.arange(2, device=head.weight.device).unsqueeze(0)
            logits = model(ids, use_cache=False, **without_router_loss(model)).logits
            setattr(model, _BARE, torch.equal(logits, head(given[0])))
    finally:
        hook.remove()


def _forward(model: Any, inputs: dict[str, Any], wanted_BL: Tensor) -> tuple[Said, Tensor | None]:
    """What the model says at the wanted positions, and a mixture of experts' term."""
    laid = line.laid(model, inputs, wanted_BL)
    wanted_BL = laid[1] if laid else wanted_BL
    head = model.get_output_embeddings()
    bare = _is_bare(model, head)
    kept: list[Tensor] = []

    def keep(_: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_ND = args[0][wanted_BL]
        kept.append(hidden_ND)
        return ((hidden_ND[:0] if bare else hidden_ND).unsqueeze(0), *args[1:])

    hook = head.register_forward_pre_hook(keep)
    try:
        output = run(model, inputs, laid[0] if laid else None)
    finally:
        hook.remove()
    said = Unspoken(kept[0], head) if bare else Spoken(output.logits.squeeze(0))
    return said, _router_loss(model, output)


def _is_bare(model: Any, head: Any) -> bool:
    """Whether logits are the head's product and no more, with a matrix that is here as a whole."""
    return getattr(model, _BARE, False) and type(head) is nn.Linear and type(head.weight.data) is Tensor


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
