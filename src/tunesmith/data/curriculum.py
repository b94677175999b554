"""Rows in order of difficulty during the first epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example
from .audit import Finding
from .config import CurriculumSpec
from .values import sort_values

LENGTH, BASE_LOSS = "length", "base_loss"


@dataclass(frozen=True)
class Curriculum:
    """The rank of each row [rows], small ones first, and in how many epochs it counts."""

    difficulty: NDArray[np.float64]
    epochs: int

    @staticmethod
    def of(spec: CurriculumSpec, difficulty: NDArray[np.float64]) -> Curriculum:
        """From what the recipe calls difficult; a value that is no number counts as the easiest."""
        known = np.where(np.isnan(difficulty), -np.inf, difficulty)
        return Curriculum(-known if spec.order == "descending" else known, spec.epochs)

    def pick(self, places: Sequence[int]) -> Curriculum:
        """That of some of the rows."""
        return Curriculum(self.difficulty[np.asarray(places, dtype=np.int64)], self.epochs)

    def in_epoch(self, epoch: int) -> NDArray[np.float64] | None:
        """The ranks that count in an epoch (from 0); None where rows are shuffled."""
        return self.difficulty if epoch < self.epochs else None


def curriculum(
    spec: CurriculumSpec | None, examples: Sequence[Example], lengths: Sequence[int]
) -> tuple[Curriculum | None, list[Finding]]:
    """The curriculum of these rows and what is wrong with them; None without one and for what the base must tell.

    ContentError when no row has the key that `by` names.
    """
    if spec is None or spec.by == BASE_LOSS:
        return None, []
    if spec.by == LENGTH:
        return Curriculum.of(spec, np.asarray(lengths, dtype=np.float64)), []
    words = (LENGTH, BASE_LOSS)
    values, findings = sort_values(examples, spec.by, "data.curriculum.by", "put in an order of learning", words)
    return Curriculum.of(spec, values), findings
