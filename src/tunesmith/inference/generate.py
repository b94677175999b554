"""Answers to many prompts at once, or one as it comes; greedy or sampled, by decoders and by encoder-decoders.

Prompts of like length share a batch. Greedy answers do not depend on a seed; sampled ones depend on the seed and on the
order of the prompts. The loop itself is `batch`'s, how one token comes from a model `steppers`'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from .batch import Batch, Line
from .sampling import Sampling

__all__ = ["BATCH_ROWS", "Answer", "Sampling", "generate", "stream"]

BATCH_ROWS = 64


@dataclass(frozen=True)
class Answer:
    """Generated token ids without the stop token, and why generation ended."""

    token_ids: list[int]
    finish_reason: Literal["stop", "length"]
    ended_by: int | None = field(default=None, compare=False)
    """The stop token."""


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    pad_id: int,
    stop_ids: set[int],
    context: int | None = None,
    batch_rows: int = BATCH_ROWS,
    on_progress: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Answers in the prompts' order. `on_progress` gets rows done so far.

    `context` bounds prompt plus answer, as rows of training are bounded: for an encoder-decoder with places of its
    own on either side (BART) too, though each side could hold that many.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, Answer] = {}
    was_training = model.training
    model.eval()
    for start in range(0, len(order), batch_rows):
        rows = order[start : start + batch_rows]
        lines = _lines(model, [prompts[i] for i in rows], sampling, context)
        for _ in Batch(model, lines, pad_id, stop_ids).steps():
            pass
        answers |= {
            i: Answer(line.tokens, line.finish or "stop", line.ended_by) for i, line in zip(rows, lines, strict=True)
        }
        if on_progress:
            on_progress(len(answers))
    model.train(was_training)
    return [answers[i] for i in range(len(prompts))]


def stream(
    model: Any,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    pad_id: int,
    stop_ids: set[int],
    context: int | None = None,
) -> Iterator[int]:
    """The tokens of one answer as they come, the stop token left out."""
    for tokens in Batch(model, _lines(model, [prompt], sampling, context), pad_id, stop_ids).steps():
        if 0 in tokens:
            yield tokens[0]


def _lines(model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, context: int | None) -> list[Line]:
    """Lines that draw from one stream of random numbers."""
    random = torch.Generator(device=next(model.parameters()).device).manual_seed(sampling.seed)
    return [Line(prompt, sampling, random, context) for prompt in prompts]
