"""Log-probabilities of sequences that share their beginning (`data.branches`), the beginning computed once.

What a token may see is told by a mask over all pairs of tokens [B, 1, L, L], which transformers' models take instead of
a mask of padding; layers with a sliding window get one that also heeds their window. A base that cannot be asked so (an
encoder-decoder, a model whose layers are recurrent or heed no such mask) is asked each sequence by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.batch import collate
from ..data.branches import PADDING, TRUNK, Family, branched
from ..models.head import labelled, said_where, without_router_loss
from ..models.pooling import pooled
from ..models.targets import is_encoder_decoder
from .objective import Lines

PROBE_DIFFERENCE = 0.05
"""Between both ways, of a sequence's log-probability per token, or of a hidden state relative to its length; bf16
rounds by less, a mask unheeded differs by more."""


class Sequences(Protocol):
    """S sequences on the model's device."""

    def logprobs(self, model: Any) -> tuple[Tensor, Tensor]:
        """(log-probability of each sequence's labelled tokens, summed, in nats; their number), both [S], in float32."""

    def ends(self, model: Any) -> tuple[dict[str, Any], Tensor]:
        """(what the model is called with, where each sequence ends: places [S] in the flattened [B, L])."""

    def lines(self) -> Lines | None:
        """See `objective.Lined`."""


def sequences(families: Sequence[Family], pad_id: int, device: torch.device, *, share: bool) -> Sequences:
    """The sequences of all families, numbered through: in rows that share beginnings, or each in its own."""
    return Together.of(families, pad_id, device) if share else Apart.of(families, pad_id, device)


@dataclass(frozen=True)
class Apart:
    """Each sequence a row; tensors are [S, L]."""

    input_ids_SL: Tensor
    attention_mask_SL: Tensor
    loss_weight_SL: Tensor

    @staticmethod
    def of(families: Sequence[Family], pad_id: int, device: torch.device) -> Apart:
        """Padded on the right."""
        batch = collate([one for family in families for one in family.sequences], pad_id)
        arrays = (batch.input_ids, batch.attention_mask, batch.loss_weight)
        return Apart(*(torch.from_numpy(array).to(device) for array in arrays))

    def logprobs(self, model: Any) -> tuple[Tensor, Tensor]:
        """See `Sequences`."""
        said = labelled(model, self.input_ids_SL, self.attention_mask_SL, self.loss_weight_SL)
        return _summed(-said.losses(), said.owner_N, len(self.input_ids_SL))

    def ends(self, model: Any) -> tuple[dict[str, Any], Tensor]:
        """See `Sequences`."""
        rows, length = self.attention_mask_SL.shape
        first_S = torch.arange(rows, device=self.input_ids_SL.device) * length
        inputs = {"input_ids": self.input_ids_SL, "attention_mask": self.attention_mask_SL}
        return inputs, first_S + self.attention_mask_SL.sum(1) - 1

    def lines(self) -> Lines:
        """See `objective.Lined`."""
        return self.input_ids_SL, self.attention_mask_SL


@dataclass(frozen=True)
class Together:
    """Rows that begin with what their sequences share; see `data.branches.Branched` for shapes."""

    input_ids_BL: Tensor
    positions_BL: Tensor
    branch_BL: Tensor
    before_M: Tensor
    tokens_M: Tensor
    owner_M: Tensor
    last_S: Tensor
    count: int

    @staticmethod
    def of(families: Sequence[Family], pad_id: int, device: torch.device) -> Together:
        """Padded on the right."""
        made = branched(families, pad_id)
        ids_BL, positions_BL, branch_BL, before_M, tokens_M, owner_M, last_S = (
            torch.from_numpy(array).to(device)
            for array in (made.input_ids, made.positions, made.branch, made.before, made.tokens, made.owner, made.last)
        )
        return Together(ids_BL, positions_BL, branch_BL, before_M, tokens_M, owner_M, last_S, made.count)

    def logprobs(self, model: Any) -> tuple[Tensor, Tensor]:
        """See `Sequences`."""
        asked_N, pick_M = torch.unique(self.before_M, return_inverse=True)  # branches begin behind the same token
        wanted_BL = torch.zeros_like(self.input_ids_BL, dtype=torch.bool)
        wanted_BL.view(-1)[asked_N] = True
        said = said_where(model, self._inputs(model) | without_router_loss(model), wanted_BL)
        return _summed(-said.at(pick_M).losses(self.tokens_M), self.owner_M, self.count)

    def ends(self, model: Any) -> tuple[dict[str, Any], Tensor]:
        """See `Sequences`."""
        return self._inputs(model), self.last_S

    def lines(self) -> None:
        """None: branches of one row are no lines by themselves."""

    def _inputs(self, model: Any) -> dict[str, Any]:
        mask = _mask(model, self.positions_BL, self.branch_BL)
        return {"input_ids": self.input_ids_BL, "position_ids": self.positions_BL, "attention_mask": mask}


def can_share(model: Any, example: Family, pad_id: int) -> bool:
    """Whether the model gives the same log-probabilities for sequences in one row as for each by itself."""
    found = both_ways(model, example, pad_id, lambda some: some.logprobs(model)[0])
    if found is None:
        return False
    lengths = np.array([one.labelled for one in example.sequences])
    return bool((np.abs(found[0] - found[1]) / lengths < PROBE_DIFFERENCE).all())


def both_ways(
    model: Any, example: Family, pad_id: int, ask: Callable[[Sequences], Tensor]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """What the model says of sequences in one row, and of each by itself; None where it takes no such row."""
    if is_encoder_decoder(model):
        return None
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            together, apart = (
                ask(sequences([example], pad_id, device, share=share)).float().cpu().numpy() for share in (True, False)
            )
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError):  # a model that takes no such mask or places
        return None
    finally:
        model.train(was_training)
    return together, apart


def can_share_ends(model: Any, example: Family, pad_id: int) -> bool:
    """Whether a model with another head than the vocabulary's reads sequences in one row as it reads each by itself.

    Told by the hidden states that the head reads, for a new head says the same of everything.
    """
    found = both_ways(model, example, pad_id, lambda some: pooled(model, *some.ends(model)))
    if found is None:
        return False
    together, apart = found
    return bool((np.linalg.norm(together - apart, axis=1) < PROBE_DIFFERENCE * np.linalg.norm(apart, axis=1)).all())


def _mask(model: Any, positions_BL: Tensor, branch_BL: Tensor) -> Tensor | dict[str, Tensor]:
    """What each token may see, to be added to attention's scores: [B, 1, L, L], by the kind of layer where the model
    has several."""
    seen_BLL = _seen(positions_BL, branch_BL)
    dtype = next(model.parameters()).dtype
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not window or (kinds and "sliding_attention" not in kinds):
        return _added(seen_BLL, dtype)
    near_BLL = (positions_BL.unsqueeze(2) - positions_BL.unsqueeze(1)) < window
    slid = _added(seen_BLL & near_BLL, dtype)
    return {"full_attention": _added(seen_BLL, dtype), "sliding_attention": slid} if kinds else slid


def _seen(positions_BL: Tensor, branch_BL: Tensor) -> Tensor:
    """Whether the token of the first index may see that of the second: bool [B, L, L]. Padding sees itself alone."""
    mine_BL1, other_B1L = branch_BL.unsqueeze(2), branch_BL.unsqueeze(1)
    related = ((other_B1L == TRUNK) & (mine_BL1 != PADDING)) | ((mine_BL1 == other_B1L) & (mine_BL1 != PADDING))
    earlier = positions_BL.unsqueeze(1) <= positions_BL.unsqueeze(2)
    itself = torch.eye(branch_BL.shape[1], dtype=torch.bool, device=branch_BL.device)
    return (related & earlier) | itself


def _added(seen_BLL: Tensor, dtype: torch.dtype) -> Tensor:
    zero = torch.zeros((), dtype=dtype, device=seen_BLL.device)
    return torch.where(seen_BLL.unsqueeze(1), zero, torch.finfo(dtype).min)


def _summed(logp_M: Tensor, owner_M: Tensor, count: int) -> tuple[Tensor, Tensor]:
    sums_S = logp_M.new_zeros(count).index_add(0, owner_M, logp_M)
    return sums_S, owner_M.bincount(minlength=count).to(logp_M.dtype)
