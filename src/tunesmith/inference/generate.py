"""Batched generation, greedy or sampled, for decoders by themselves and for encoder-decoders.

Prompts of like length share a batch; a batch shrinks as its rows end. Greedy answers do not depend on a seed;
sampled ones depend on the seed and on the order of the prompts. How one token comes from a model is `steppers`'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from .steppers import stepper

BATCH_ROWS = 64


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. temperature 0 is greedy; top_p keeps the smallest set with that probability."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    min_tokens: int = 0


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
        batch = _Batch(model, [prompts[i] for i in rows], sampling, pad_id, stop_ids, context)
        for _ in batch.tokens():
            pass
        answers |= dict(zip(rows, batch.answers(), strict=True))
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
    batch = _Batch(model, [prompt], sampling, pad_id, stop_ids, context)
    for row_tokens in batch.tokens():
        if 0 in row_tokens:
            yield row_tokens[0]


class _Batch:
    """Rows that are generated together."""

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, pad_id: int, stop_ids: set[int],
        context: int | None,
    ):  # fmt: skip
        self._model, self._sampling, self._stop = model, sampling, stop_ids
        self._prompts, self._pad_id = prompts, pad_id
        self._limits = [
            max(0, min(sampling.max_tokens, context - len(p)) if context else sampling.max_tokens) for p in prompts
        ]
        self._random = torch.Generator(device=next(model.parameters()).device).manual_seed(sampling.seed)
        self._out: list[list[int]] = [[] for _ in prompts]
        self._ended_by: list[int | None] = [None] * len(prompts)

    @torch.inference_mode()
    def tokens(self) -> Iterator[dict[int, int]]:
        """Each turn of the loop: the new token of each row that got one."""
        alive = [i for i, limit in enumerate(self._limits) if limit > 0]
        if not alive:
            return
        rows = stepper(self._model, [self._prompts[i] for i in alive], self._pad_id)
        while alive:
            logits_BV = rows.logits()
            chosen = self._choose(logits_BV, alive)
            new, staying = {}, []
            for place, (row, token) in enumerate(zip(alive, chosen.tolist(), strict=True)):
                if token in self._stop and len(self._out[row]) >= self._sampling.min_tokens:
                    self._ended_by[row] = token
                    continue
                self._out[row].append(token)
                new[row] = token
                if len(self._out[row]) < self._limits[row]:
                    staying.append(place)
            yield new
            if len(staying) < len(alive):
                if not staying:
                    return
                keep = torch.tensor(staying, device=chosen.device)
                rows.keep(keep)
                chosen = chosen[keep]
                alive = [alive[place] for place in staying]
            rows.append(chosen)

    def answers(self) -> list[Answer]:
        """What has been generated."""
        return [
            Answer(ids, "length" if end is None else "stop", end)
            for ids, end in zip(self._out, self._ended_by, strict=True)
        ]

    def _choose(self, logits_BV: Tensor, alive: list[int]) -> Tensor:
        """The next token of each row [B]."""
        early = [place for place, row in enumerate(alive) if len(self._out[row]) < self._sampling.min_tokens]
        if early and self._stop:
            logits_BV[torch.tensor(early).unsqueeze(1), torch.tensor(sorted(self._stop))] = float("-inf")
        if self._sampling.temperature == 0:
            return logits_BV.argmax(-1)
        probabilities_BV = (logits_BV / self._sampling.temperature).softmax(-1)
        if self._sampling.top_p < 1:
            probabilities_BV = _nucleus(probabilities_BV, self._sampling.top_p)
        return torch.multinomial(probabilities_BV, 1, generator=self._random).squeeze(1)


def _nucleus(probabilities_BV: Tensor, top_p: float) -> Tensor:
    """Zero all but the likeliest tokens that together reach `top_p` (Holtzman et al. 2020, arXiv 1904.09751)."""
    sorted_BV, order_BV = probabilities_BV.sort(dim=-1, descending=True)
    outside_BV = sorted_BV.cumsum(-1) - sorted_BV >= top_p
    return probabilities_BV.masked_fill(outside_BV.gather(-1, order_BV.argsort(-1)), 0.0)
