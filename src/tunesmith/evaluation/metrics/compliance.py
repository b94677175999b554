"""Whether an answer keeps to a form: a regular expression, or bounds of length."""

from __future__ import annotations

import re

from ...core.errors import ContentError

Bounds = tuple[int | None, int | None]
"""Least and most; None for no bound."""


class Format:
    """1 when the pattern matches the whole answer."""

    uses_reference = False

    def __init__(self, name: str, pattern: str):
        self.name = name
        try:
            self._pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ContentError(
                f"evaluation.metrics: the pattern of '{name}' is no regular expression", where="evaluation.metrics",
                why=str(error), mend="correct it; Python's syntax",
            ) from None  # fmt: skip

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0; the reference plays no part."""
        return float(self._pattern.fullmatch(prediction.strip()) is not None)


class Length:
    """1 when the answer is neither too short nor too long, in words and in characters."""

    uses_reference = False

    def __init__(self, name: str, words: Bounds = (None, None), characters: Bounds = (None, None)):
        self.name, self._words, self._characters = name, words, characters

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0; the reference plays no part."""
        text = prediction.strip()
        return float(_within(len(text.split()), self._words) and _within(len(text), self._characters))


def _within(size: int, bounds: Bounds) -> bool:
    low, high = bounds
    return (low is None or size >= low) and (high is None or size <= high)
