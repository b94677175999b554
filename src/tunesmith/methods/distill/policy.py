"""On-policy distillation: the student is corrected by the teacher on what it writes itself.

GKD, algorithm 1 (Agarwal et al. 2024, arXiv 2306.13649): with probability lambda an optimizer step learns on answers
that the student samples to the step's prompts, otherwise on the data's answers; no gradient goes through the sampling.
The mean is taken over all labelled tokens of a step, where the paper takes it over each answer and then over answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.rows import Mapped
from ...data.tokenize import Encoded
from ...engine.objective import Tally
from ...inference.generate import Sampling, generate
from ...inference.stops import stop_ids
from ..base import Figures, Learned, Scene, Scores
from . import live
from .config import DistillSpec
from .taught import Taught, TaughtBatch, batch_of, mixed_loss, student_says
from .teacher import find_teacher

_COIN = 11
"""What tells the draw of the steps from other draws under one seed."""


class OnPolicy:
    """Learns from a teacher in memory."""

    figures: tuple[str, ...] = ("divergence", "agreement")

    def __init__(self, spec: DistillSpec):
        self.spec = spec
        self.tally = Tally()

    def prepare(self, scene: Scene) -> Learned:
        """Load the teacher."""
        teacher = find_teacher(str(self.spec.teacher))
        self._words = live.shared_vocabulary(scene.model, teacher)
        self._teacher = live.open_teacher(teacher, scene.number_type)
        self._seed, self._pad_id, self._longest = scene.seed, scene.pad_id, scene.max_length
        self._stop_ids = stop_ids(scene.model, scene.tokenizer)
        return Learned(Mapped(scene.train, Taught), Mapped(scene.validation, Taught))

    def step_rows(self, model: Any, rows: Sequence[Taught], step: int | None) -> Sequence[Taught]:
        """The data's rows, or in a share of the steps the student's own answers to their prompts."""
        if step is None or np.random.default_rng([self._seed, _COIN, step]).random() >= self.spec.policy.share:
            return rows
        prompts = [prompt_of(row.row) for row in rows]
        how = self.spec.policy
        sampling = Sampling(how.max_tokens, how.temperature, seed=self._seed * 1_000_003 + step)
        answers = generate(
            model, prompts, sampling, pad_id=self._pad_id, stop_ids=self._stop_ids, context=self._longest
        )
        return [
            written(row, prompt, [*answer.token_ids, *([] if answer.ended_by is None else [answer.ended_by])])
            for row, prompt, answer in zip(rows, prompts, answers, strict=True)
        ]

    def batch(self, rows: Sequence[Taught], pad_id: int, device: torch.device) -> TaughtBatch:
        """Padded on the right."""
        return batch_of(rows, pad_id, device)

    def loss_sum(self, model: Any, batch: TaughtBatch) -> Tensor:
        """See `taught`."""
        said = student_says(model, batch)
        teacher_NV = live.teacher_logits(self._teacher, batch.rows, self._words)
        return mixed_loss(said, teacher_NV, batch.own_B, self._words, self.spec, self.tally)

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """None."""
        return None

    def held_out(self, model: Any, rows: Sequence[Encoded], *, pad_id: int, number_type: str) -> Figures:
        """Nothing: answers and losses say it all."""
        return {}

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """Nothing besides."""
        return {}


def prompt_of(row: Encoded) -> list[int]:
    """The tokens before the row's last run of labels; all of them where there is no label."""
    labelled = np.flatnonzero(row.loss_weight)
    if not len(labelled):
        return [int(i) for i in row.input_ids]
    breaks = np.flatnonzero(np.diff(labelled) > 1)
    begin = int(labelled[breaks[-1] + 1] if len(breaks) else labelled[0])
    return [int(i) for i in row.input_ids[:begin]]


def written(row: Taught, prompt: Sequence[int], answer: Sequence[int]) -> Taught:
    """The prompt with another answer, which weighs as much a token as the row's; the row itself for an empty one."""
    if not answer:
        return row
    ids = np.array([*prompt, *answer], dtype=np.int32)
    weight = np.zeros(len(ids), dtype=np.float32)
    weight[len(prompt) :] = row.row.loss_weight[len(prompt)]
    return Taught(Encoded(ids, weight), own=True)
