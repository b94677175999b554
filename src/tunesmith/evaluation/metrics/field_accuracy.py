"""Accuracy of one field of a JSON answer."""

from __future__ import annotations

from .base import parsed, same

_ABSENT = object()


class FieldAccuracy:
    """1 when the field has the reference's value, or is absent in both. The field may be a path: `order.number`."""

    uses_reference = True

    def __init__(self, field: str):
        self.field = field

    @property
    def name(self) -> str:
        """`field_accuracy:<field>`."""
        return f"field_accuracy:{self.field}"

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0; 0 for an answer that is no JSON object."""
        answer = parsed(prediction)
        if not isinstance(answer, dict):
            return 0.0
        return float(same(self._value(answer), self._value(parsed(reference))))

    def _value(self, value: object) -> object:
        for key in self.field.split("."):
            if not isinstance(value, dict) or key not in value:
                return _ABSENT
            value = value[key]
        return value
