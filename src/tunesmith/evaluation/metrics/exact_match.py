"""Exact match, with JSON compared by value."""

from __future__ import annotations

from .base import parsed, same


class ExactMatch:
    """1 when the answer equals the reference.

    Where the reference is a JSON object or list, both are compared as values (key order and white space do not
    count); else as text, surrounding white space aside.
    """

    name = "exact_match"
    uses_reference = True

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0."""
        wanted = parsed(reference)
        if isinstance(wanted, dict | list):
            return float(same(parsed(prediction), wanted))
        return float(prediction.strip() == reference.strip())
