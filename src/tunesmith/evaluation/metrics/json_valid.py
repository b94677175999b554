"""JSON validity."""

from __future__ import annotations

import json

from .base import refuse_constant


class JsonValid:
    """1 when the answer parses as JSON and nothing stands around it."""

    name = "json_valid"
    uses_reference = False

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0; the reference plays no part."""
        try:
            json.loads(prediction, parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            return 0.0
        return 1.0
