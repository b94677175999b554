"""Exact match, with JSON compared by value."""

from __future__ import annotations

from .base import parsed


class ExactMatch:
    """1 when the answer equals the reference.

    Where the reference is a JSON object or list, both are compared as values (key order and white space do not
    count); else as text, surrounding white space aside.
    """

    name = "exact_match"

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0."""
        wanted = parsed(reference)
        if isinstance(wanted, dict | list):
            return float(_same(parsed(prediction), wanted))
        return float(prediction.strip() == reference.strip())


def _same(a: object, b: object) -> bool:
    """Equality of JSON values in which true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b
