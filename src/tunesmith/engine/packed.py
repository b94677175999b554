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

from ..core.events import Note, Sink
from ..data.batch import collate
from ..data.packing import Packed, collate_packed, learned
from ..data.tokenize import Encoded
from ..models.head import Labelled, labelled, labelled_packed
from ..models.modes import evaluating
from ..models.targets import is_encoder_decoder
from .objective import TorchBatch

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


def packed_batch(
    rows: Sequence[Packed], pad_id: int, device: torch.device, *, together: bool
) -> PackedTensors | TorchBatch:  # fmt: skip
    """The rows as they are; with `together` false, or where none holds more than one sequence, a row for each."""
    if together and any(len(row.starts) > 1 for row in rows):
        return PackedTensors.of(rows, pad_id, device)
    return TorchBatch.of(collate([one for row in rows for one in row.sequences], pad_id), device)


def said_of(model: Any, batch: PackedTensors | TorchBatch) -> Labelled:
    """What the model says of the labelled tokens."""
    if isinstance(batch, PackedTensors):
        return batch.said(model)
    return labelled(model, batch.input_ids_BL, batch.attention_mask_BL, batch.loss_weight_BL)


def keeps_apart(model: Any, rows: Sequence[Packed], pad_id: int, sink: Sink) -> bool:
    """Whether sequences of one row can stay in it, tried on two of them; told where they cannot."""
    apart = can_pack(model, (rows[0].sequences[0], rows[len(rows) - 1].sequences[-1]), pad_id)
    if not apart:
        sink(Note("this base cannot keep sequences of one row apart: each gets its own row"))
    return apart


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
