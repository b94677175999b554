"""A model's loss on the packaged general text; what it means stands in `forgetting`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..data.tokenize import Encoded
from ..engine.evaluate import row_losses
from ..models.targets import is_encoder_decoder
from .forgetting import GeneralLoss


def general_loss(model: Any, rows: list[Encoded], *, pad_id: int, number_type: str) -> GeneralLoss:
    """Mean loss over the scored tokens of the rows, see `scored`."""
    sums, counts = row_losses(model, scored(model, rows), pad_id=pad_id, number_type=number_type)
    return GeneralLoss(float(sums.sum() / counts.sum()), len(rows), int(counts.sum()))


def scored(model: Any, rows: list[Encoded]) -> list[Encoded]:
    """The rows with labels on what `model` is scored on: for an encoder-decoder the second half of each text only."""
    return [_second_half(row) for row in rows] if is_encoder_decoder(model) else rows


def _second_half(row: Encoded) -> Encoded:
    weight = row.loss_weight.copy()
    weight[: max(1, len(weight) // 2)] = 0
    return replace(row, loss_weight=weight)
