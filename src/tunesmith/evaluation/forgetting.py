"""What training cost elsewhere: the loss on general text before and after.

A decoder by itself is scored on every token of a text but the first. An encoder-decoder cannot be asked that: its
encoder reads the first half of a text and its decoder is scored on the second half. Base and tuned model are asked
the same, so the rise means the same; but few encoder-decoders were trained to go on with a text (T5 filled gaps), so
their losses start high and are not to be set beside those of other models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.tokenize import Encoded, encode_text
from ..engine.evaluate import row_losses
from ..models.targets import is_encoder_decoder

GENERAL = Path(__file__).parent / "general.jsonl"


@dataclass(frozen=True)
class GeneralLoss:
    """One model's mean cross entropy on the packaged general text, in nats a token."""

    loss: float
    rows: int
    tokens: int


@dataclass(frozen=True)
class Forgetting:
    """Mean cross entropy on the packaged general text, in nats a token."""

    base_loss: float
    tuned_loss: float
    rows: int
    tokens: int

    @staticmethod
    def between(base: GeneralLoss, tuned: GeneralLoss) -> Forgetting:
        """Two models on the same text."""
        return Forgetting(base.loss, tuned.loss, base.rows, base.tokens)

    @property
    def delta(self) -> float:
        """The rise; above 0 something was forgotten."""
        return self.tuned_loss - self.base_loss


def general_rows(tokenizer: Any, max_length: int) -> list[Encoded]:
    """The packaged general text as tokens, long texts cut."""
    texts = [json.loads(line)["text"] for line in GENERAL.read_text("utf-8").splitlines()]
    return [encode_text(tokenizer, text).cut(max_length) for text in texts]


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
