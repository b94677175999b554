"""Answers and losses of one model on the test rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example, spoken
from ..data.tokenize import Encoded, encode_prompt
from ..engine.evaluate import row_losses
from ..inference.generate import Sampling, generate


@dataclass(frozen=True)
class Answers:
    """One model on all test rows, in order. `loss_sums` in nats and `label_counts` in tokens, both [rows]."""

    texts: list[str]
    finished: list[bool]
    loss_sums: NDArray[np.float64]
    label_counts: NDArray[np.int64]


@dataclass(frozen=True)
class TestSet:
    """Held-out rows, as conversations and as tokens."""

    examples: Sequence[Example]
    encoded: Sequence[Encoded]
    prompts: Sequence[Sequence[int]]

    @staticmethod
    def of(examples: Sequence[Example], encoded: Sequence[Encoded], tokenizer: Any) -> TestSet:
        """Encode the prompts: everything before the last assistant turn, as it would be served."""
        return TestSet(examples, encoded, [encode_prompt(tokenizer, e.prompt(), e.tools) for e in examples])


def answer_rows(
    model: Any,
    tokenizer: Any,
    test: TestSet,
    *,
    max_tokens: int,
    stop_ids: set[int],
    context: int | None,
    number_type: str,
    on_progress: Callable[[int], None] | None = None,
) -> Answers:
    """Greedy answers to every prompt, thinking left out, and the loss of every reference answer, thinking included."""
    answers = generate(
        model, test.prompts, Sampling(max_tokens=max_tokens), pad_id=tokenizer.pad_token_id, stop_ids=stop_ids,
        context=context, on_progress=on_progress,
    )  # fmt: skip
    sums, counts = row_losses(model, test.encoded, pad_id=tokenizer.pad_token_id, number_type=number_type)
    texts = [spoken(tokenizer.decode(a.token_ids, skip_special_tokens=True)).strip() for a in answers]
    return Answers(texts, [a.finish_reason == "stop" for a in answers], sums, counts)
