"""What a method gives the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..data.batch import Batch


@dataclass(frozen=True)
class TorchBatch:
    """A padded batch on the model's device; all tensors are [B, L]. See `data.batch.Batch`."""

    input_ids_BL: Tensor
    attention_mask_BL: Tensor
    loss_weight_BL: Tensor

    @staticmethod
    def of(batch: Batch, device: torch.device) -> TorchBatch:
        """Move numpy arrays to the device."""
        arrays = (batch.input_ids, batch.attention_mask, batch.loss_weight)
        return TorchBatch(*(torch.from_numpy(a).to(device) for a in arrays))


class Objective(Protocol):
    """A loss as a weighted sum, so that the loop can take one mean over a whole optimizer step."""

    def loss_sum(self, model: Any, batch: TorchBatch) -> Tensor:
        """Sum over tokens of weight x loss, a scalar with gradient, in nats."""

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """A scalar in nats added to the mean loss of optimizer step `step` (from 0), or None for no such term.

        Must be a function of the weights and of `step` alone, so that a resumed run draws the same.
        """
