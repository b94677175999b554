"""F1 over the fields of a JSON answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .base import f1, parsed


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


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """All scalar values below `value` with their paths; an empty object or list is a leaf itself."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for item in value:
            yield from leaves(item, f"{path}[]")
    else:
        yield path, json.dumps(value, sort_keys=True)
