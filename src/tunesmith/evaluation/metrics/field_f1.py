"""F1 over the fields of a JSON answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .base import f1, parsed

Path = tuple[str | int, ...]
"""Keys from the outside in; 0 for any item of a list."""


class FieldF1:
    """F1 between the (path, value) pairs of two JSON objects, the leaves; 0 when the answer is no JSON."""

    name = "field_f1"
    uses_reference = True

    def score(self, prediction: str, reference: str) -> float:
        """In [0, 1]. List items count without their position."""
        answer, wanted = parsed(prediction), parsed(reference)
        if not isinstance(answer, dict | list):
            return 0.0
        return f1(Counter(leaves(answer)), Counter(leaves(wanted)))


def leaves(value: Any) -> Iterator[tuple[Path, str]]:
    """All scalar values below `value` with their paths; an empty object or list is a leaf itself.

    Equal numbers are equal leaves (1 and 1.0), as in exact match. No recursion: a model may nest without end.
    """
    held: list[tuple[Path, Any]] = [((), value)]
    while held:
        path, one = held.pop()
        if isinstance(one, dict) and one:
            held += [((*path, key), item) for key, item in one.items()]
        elif isinstance(one, list) and one:
            held += [((*path, 0), item) for item in one]
        else:
            yield path, json.dumps(int(one) if isinstance(one, float) and one.is_integer() else one)
