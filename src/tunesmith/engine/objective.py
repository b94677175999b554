"""What a method gives the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..data.batch import Batch, Item

Lines = tuple[Tensor, Tensor]


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

    def lines(self) -> Lines:
        """See `Lined`."""
        return self.input_ids_BL, self.attention_mask_BL


@runtime_checkable
class Lined(Protocol):
    """A batch that tells its rows."""

    def lines(self) -> Lines | None:
        """(tokens [B, L], mask of padding on the right [B, L]) where a model is called with these and nothing else."""


class Tally:
    """Sums over rows of what a method wants told beside its loss (the share of pairs put right, ...)."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}

    def add(self, name: str, values_N: Tensor) -> None:
        """Count the values in."""
        self._sums[name] = self._sums.get(name, 0.0) + float(values_N.detach().double().sum())

    def take(self) -> dict[str, float]:
        """The sums since the last call, by name; the tally starts again."""
        sums, self._sums = self._sums, {}
        return sums


class Objective(Protocol):
    """A loss as a weighted sum, so that the loop can take one mean over a whole optimizer step."""

    figures: tuple[str, ...]
    """Names of what `tally` counts: sums whose mean over a step's weight is logged beside the loss."""
    tally: Tally

    def step_rows(self, model: Any, rows: Sequence[Any], step: int | None) -> Sequence[Item]:
        """The rows that optimizer step `step` (from 0) learns in place of `rows`; those of a validation with None.

        Most methods give back what they got. Called under the loop's precision, before the first micro-batch. Must be
        a function of the weights, the rows and `step` alone, so that a resumed run finds the same.
        """

    def batch(self, rows: Sequence[Any], pad_id: int, device: torch.device) -> Any:
        """Rows as the tensors that `loss_sum` takes."""

    def loss_sum(self, model: Any, batch: Any) -> Tensor:
        """Sum over the batch of weight x loss, a scalar with gradient, in nats; its mean over the weight of all rows of
        a step is what is learned. Counts `figures` into `tally`."""

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """A scalar in nats added to the mean loss of optimizer step `step` (from 0), or None for no such term.

        Must be a function of the weights and of `step` alone, so that a resumed run draws the same.
        """
