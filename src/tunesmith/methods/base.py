"""The seam between the journeys and the ways to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..adapters.base import Adapter
from ..core.events import Sink, silent
from ..data.batch import Item
from ..engine.distributed import ALONE, World
from ..engine.objective import Objective

Scores = NDArray[np.float64]
"""One number for each row."""
Figures = dict[str, Scores]


@dataclass(frozen=True)
class Scene:
    """What a method finds before the first step. The model is still the base: `adapter` is attached and untrained."""

    model: Any
    adapter: Adapter
    tokenizer: Any
    seed: int
    train: Sequence[Any] = ()
    """The rows as `data` made them for this method's kind."""
    validation: Sequence[Any] = ()
    number_type: str = "fp32"
    folder: Path | None = None
    """The run's folder, where what is computed once may be kept; None keeps nothing."""
    identity: str = ""
    """What the kept belongs to: a fingerprint of data, base and recipe."""
    sink: Sink = silent
    world: World = ALONE
    examples: Sequence[Any] = ()
    """The training rows as they were read, in the order of `train`."""
    max_length: int | None = None
    """Tokens that a row may have."""
    date: str | None = None
    """The day that templates show (YYYY-MM-DD); None for today."""

    @property
    def pad_id(self) -> int:
        """The padding token."""
        return int(self.tokenizer.pad_token_id)


@dataclass(frozen=True)
class Learned:
    """The rows that a method learns and validates on, as its batches want them."""

    train: Sequence[Item]
    validation: Sequence[Item]
    places: Sequence[int] | None = None
    """Which of the scene's training rows these are, where some are left out; None for all of them."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the run's record is to tell, by key; a `summary` inside goes into the report."""


class Method(Objective, Protocol):
    """One way to learn. `prepare` first."""

    def prepare(self, scene: Scene) -> Learned:
        """Compute once what the whole training needs (the base's own log-probabilities, a teacher's, ...).

        Raises ContentError where model, adapter and method do not go together.
        """

    def held_out(self, model: Any, rows: Sequence[Any], *, pad_id: int, number_type: str) -> Figures:
        """What one model says of the test rows, for `compared`: arrays [rows] by name."""

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """The measures of base and tuned model on each row, by name, from what `held_out` gave of both."""


@runtime_checkable
class Heading(Method, Protocol):
    """A method whose model has another head than the vocabulary's, and so writes no answers.

    Its `held_out` figures hold `loss`: of each test row, in nats, without what only training adds.
    """

    def said(self, figures: Figures) -> list[str]:
        """What the model says of each test row, in words, from what `held_out` gave."""
