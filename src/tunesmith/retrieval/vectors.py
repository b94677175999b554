"""Chunks by what they mean: vectors of texts, and the nearest by an exact search.

Exact, for a matrix of 100,000 x 384 is one product of hundredths of a second: an approximate index would add parameters
and lose answers.

Shapes: N texts, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.lexical import best

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Texts to vectors, near each other where the texts mean much the same."""

    @property
    def name(self) -> str:
        """What it is and which weights it has: vectors of two names cannot be compared."""

    @property
    def size(self) -> int:
        """D."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [N, D], each of length 1, or 0 for a text that says nothing to it."""


def nearest(vectors_ND: Vectors, asked_D: Vectors, count: int) -> list[int]:
    """The texts by the cosine of the angle to what is asked, at most `count`, the nearest first."""
    cosines_N = vectors_ND @ asked_D
    return best(cosines_N, np.arange(len(cosines_N)), count)
