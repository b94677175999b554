"""The optimizer steps of a whole training: how many there are, and which rows each one holds. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..data.batch import Budget, Step, plan_epoch
from ..data.curriculum import Curriculum
from .config import TrainingSpec

DEFAULT_BATCH_SIZE = 16
SEED_STRIDE = 1_000_003
"""Between seeds that a second number (a step) is added to or multiplied with: so far apart, none meets another."""
EVALUATIONS = 10
"""Validations in a training where evaluate_every is "auto"."""


@dataclass(frozen=True)
class Cadence:
    """Optimizer steps between validations and between checkpoints."""

    evaluate_every: int
    checkpoint_every: int


class Steps:
    """The plan of every epoch, drawn when it is needed; a function of its arguments alone."""

    def __init__(
        self, lengths: Sequence[int], repeats: Sequence[int], spec: TrainingSpec, seed: int,
        curriculum: Curriculum | None = None,
    ):  # fmt: skip
        rows = spec.batch_size or (None if spec.batch_tokens else DEFAULT_BATCH_SIZE)
        self._budget = Budget(rows, spec.batch_tokens, spec.gradient_accumulation)
        self._lengths, self._repeats, self._seed = lengths, repeats, seed
        self._curriculum = curriculum
        self.total = self._count(spec)

    def after(self, done: int) -> Iterator[tuple[int, Step]]:
        """(number from 0, rows) of every step behind the first `done` ones."""
        endless = itertools.chain.from_iterable(self._epoch(epoch) for epoch in itertools.count())
        return itertools.islice(enumerate(endless), done, self.total)

    @property
    def passes(self) -> float:
        """How often the rows of an epoch come in all."""
        return self.total / len(self._epoch(0))

    def resolve_cadence(self, spec: TrainingSpec) -> Cadence:
        """What "auto" means for this many steps."""
        every = max(1, round(self.total / EVALUATIONS))
        evaluate = every if spec.evaluate_every == "auto" else spec.evaluate_every
        return Cadence(evaluate, evaluate if spec.checkpoint_every == "auto" else spec.checkpoint_every)

    def _count(self, spec: TrainingSpec) -> int:
        whole, steps = int(spec.epochs), 0
        for epoch in range(whole):
            steps += len(self._epoch(epoch))
            if spec.max_steps and steps >= spec.max_steps:
                return spec.max_steps
        if spec.epochs > whole:
            steps += round((spec.epochs - whole) * len(self._epoch(whole)))
        return max(1, min(steps, spec.max_steps or steps))

    def _epoch(self, epoch: int) -> list[Step]:
        difficulty = self._curriculum.in_epoch(epoch) if self._curriculum else None
        return plan_epoch(self._lengths, self._repeats, self._budget, self._seed, epoch, difficulty)
