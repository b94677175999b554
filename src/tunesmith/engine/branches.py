"""Log-probabilities of sequences that share their beginning (`data.branches`), the beginning computed once.

What a token may see is told by a mask over all pairs of tokens [B, 1, L, L], which transformers' models take instead of
a mask of padding; layers with a sliding window get one that also heeds their window. A base that cannot be asked so (an
encoder-decoder, a model whose layers are recurrent or heed no such mask) is asked each sequence by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.batch import collate
from ..data.branches import PADDING, TRUNK, Family, branched
from ..models.head import labelled, logits_where, without_router_loss
from ..models.targets import is_encoder_decoder

PROBE_DIFFERENCE = 0.05
"""Of a sequence's log-probability per token between both ways; bf16 rounds by less, a mask unheeded differs by more."""


class Sequences(Protocol):
    """S sequences on the model's device."""

    def logprobs(self, model: Any) -> tuple[Tensor, Tensor]:
        """(log-probability of each sequence's labelled tokens, summed, in nats; their number), both [S], in float32."""


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


@dataclass(frozen=True)
class Together:
    """Rows that begin with what their sequences share; see `data.branches.Branched` for shapes."""

    input_ids_BL: Tensor
    positions_BL: Tensor
    branch_BL: Tensor
    before_M: Tensor
    tokens_M: Tensor
    owner_M: Tensor
    count: int

    @staticmethod
    def of(families: Sequence[Family], pad_id: int, device: torch.device) -> Together:
        """Padded on the right."""
        made = branched(families, pad_id)
        ids_BL, positions_BL, branch_BL, before_M, tokens_M, owner_M = (
            torch.from_numpy(array).to(device)
            for array in (made.input_ids, made.positions, made.branch, made.before, made.tokens, made.owner)
        )
        return Together(ids_BL, positions_BL, branch_BL, before_M, tokens_M, owner_M, made.count)

    def logprobs(self, model: Any) -> tuple[Tensor, Tensor]:
        """See `Sequences`."""
        asked_N, pick_M = torch.unique(self.before_M, return_inverse=True)  # branches begin behind the same token
        wanted_BL = torch.zeros_like(self.input_ids_BL, dtype=torch.bool)
        wanted_BL.view(-1)[asked_N] = True
        mask = _mask(model, self.positions_BL, self.branch_BL)
        inputs = {"input_ids": self.input_ids_BL, "position_ids": self.positions_BL, "attention_mask": mask}
        logits_NV = logits_where(model, inputs | without_router_loss(model), wanted_BL)
        normal_N = logits_NV.float().logsumexp(-1)
        logp_M = logits_NV[pick_M, self.tokens_M].float() - normal_N[pick_M]
        return _summed(logp_M, self.owner_M, self.count)


def can_share(model: Any, example: Family, pad_id: int) -> bool:
    """Whether the model gives the same log-probabilities for sequences in one row as for each by itself."""
    if is_encoder_decoder(model):
        return False
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            found = [
                sequences([example], pad_id, device, share=share).logprobs(model)[0].cpu().numpy()
                for share in (True, False)
            ]
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError):  # a model that takes no such mask or places
        return False
    finally:
        model.train(was_training)
    lengths = np.array([one.labelled for one in example.sequences])
    return bool((np.abs(found[0] - found[1]) / lengths < PROBE_DIFFERENCE).all())


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
