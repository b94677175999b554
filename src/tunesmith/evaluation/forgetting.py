"""What training cost elsewhere: the loss on general text before and after."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.tokenize import Encoded, encode_text
from ..engine.evaluate import row_losses

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
    """Mean loss over all tokens of the rows."""
    sums, counts = row_losses(model, rows, pad_id=pad_id, number_type=number_type)
    return GeneralLoss(float(sums.sum() / counts.sum()), len(rows), int(counts.sum()))
