"""What one model said of the test rows. No torch: answers that are there already can be judged without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """One model on all test rows, in order. `loss_sums` in nats and `label_counts` in tokens, both [rows]."""

    texts: list[str]
    finished: list[bool]
    loss_sums: NDArray[np.float64]
    label_counts: NDArray[np.int64]
    drawn: Sequence[Sequence[str]] = ()
    """Several answers to each row, drawn at random, where a metric asks for such."""
    reused: int = 0
    """How many of the texts were known before and not asked again."""

    def losses(self) -> NDArray[np.float64]:
        """Mean loss of each row, nats a token."""
        mean: NDArray[np.float64] = self.loss_sums / np.maximum(self.label_counts, 1)
        return mean


class Recall(Protocol):
    """One model's answers from before."""

    def get(self, prompt: Sequence[int], decoding: Mapping[str, Any]) -> tuple[str, bool] | None:
        """(text, whether it ended by itself) to a prompt in tokens; None where it was not asked before."""

    def put(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[tuple[str, bool]], decoding: Mapping[str, Any]
    ) -> None:
        """Keep answers."""
