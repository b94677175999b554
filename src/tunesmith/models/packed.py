"""Sequences that stand beside each other in a row (`data.packing`), none of which sees another.

transformers tells them apart by positions that begin at 0 anew, where it is given neither a mask of padding nor a
cache, and masks each sequence by itself, sliding windows included (`masking_utils.find_packed_sequence_indices`).
Not every model heeds that (recurrent layers, positions by a mask): `can_pack` tries it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.batch import collate
from ..data.packing import Packed, collate_packed, learned
from ..data.tokenize import Encoded
from .head import Labelled, labelled, labelled_packed
from .modes import evaluating
from .targets import is_encoder_decoder

PROBE_TOKENS = 48
LEAK_SHARE, ROUNDING = 0.25, 1e-4
"""A probe passes where losses differ by less than this share of what sequences that see each other differ by, or by
less than rounding does in float32."""


@dataclass(frozen=True)
class PackedTensors:
    """A batch of packed rows on the model's device; all tensors are [B, L]. See `data.packing.PackedBatch`."""

    input_ids_BL: Tensor
    positions_BL: Tensor
    loss_weight_BL: Tensor

    @staticmethod
    def of(rows: Sequence[Packed], pad_id: int, device: torch.device) -> PackedTensors:
        """Padded on the right."""
        batch = collate_packed(rows, pad_id)
        arrays = (batch.input_ids, batch.positions, batch.loss_weight)
        return PackedTensors(*(torch.from_numpy(array).to(device) for array in arrays))

    def said(self, model: Any) -> Labelled:
        """What the model says of the labelled tokens."""
        return labelled_packed(model, self.input_ids_BL, self.positions_BL, self.loss_weight_BL)


def can_pack(model: Any, sequences: Sequence[Encoded], pad_id: int) -> bool:
    """Whether the model gives the sequences the same losses in one row as each by itself."""
    if is_encoder_decoder(model):
        return False
    rows = [learned(one.input_ids[:PROBE_TOKENS]) for one in sequences]
    packed = Packed.of(rows)
    joined = Packed(packed.input_ids, packed.loss_weight, packed.starts[:1])
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), evaluating(model):
            apart = _alone(model, rows, pad_id, device)
            beside, seeing = (
                PackedTensors.of([row], pad_id, device).said(model).losses().cpu().numpy() for row in (packed, joined)
            )
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError):  # a model that takes no positions
        return False
    differs, leaks = np.abs(beside - apart).mean(), np.abs(seeing - apart).mean()
    return bool(differs < max(ROUNDING, LEAK_SHARE * leaks))


def _alone(model: Any, rows: Sequence[Encoded], pad_id: int, device: torch.device) -> np.ndarray[Any, Any]:
    batch = collate(rows, pad_id)
    arrays = (batch.input_ids, batch.attention_mask, batch.loss_weight)
    losses: np.ndarray[Any, Any] = (
        labelled(model, *(torch.from_numpy(a).to(device) for a in arrays)).losses().cpu().numpy()
    )
    return losses
