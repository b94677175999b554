"""What training cost elsewhere: the loss on general text before and after. No torch; `general_loss` asks a model.

A decoder by itself is scored on every token of a text but the first. An encoder-decoder cannot be asked that: its
encoder reads the first half of a text and its decoder is scored on the second half. Base and tuned model are asked
the same, so the rise means the same; but few encoder-decoders were trained to go on with a text (T5 filled gaps), so
their losses start high and are not to be set beside those of other models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.tokenize import Encoded, encode_text

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
