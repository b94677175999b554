"""Answers that are JSON: those that do not parse, and those whose keys or types differ from nearly all others."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from ..core.messages import Example
from .audit import Finding
from .labels import ENOUGH_TO_COMPARE, FEWEST_ROWS
from .look import Row

USUAL, UNUSUAL = 0.95, 0.01
MOST_SHAPES, LARGEST_SHAPE = 100_000, 200
"""Where objects have more different shapes, or more keys, there is no schema to share."""
Shape = tuple[tuple[str, str], ...]
"""(key, kind of its value), sorted."""
_TEXT, _OTHER = -1, -2
_LITERAL = "tfn"
"""What JSON begins with that begins with a letter: true, false, null."""


class JsonAnswers:
    """Remembers the shape of each answer: 4 bytes a row, and each different shape once."""

    def __init__(self, examples: Sequence[Example]):
        self._examples = examples
        self._shapes: dict[Shape, int] = {}
        self._of_row = array("i")
        self._looking = 0

    def see(self, portion: Sequence[Row]) -> None:
        """The next rows."""
        for row in portion:
            self._looking += row.answer.lstrip()[:1] in ("{", "[")
            self._of_row.append(self._code(row.answer))

    def findings(self) -> Iterator[Finding]:
        """Told only where most answers look like JSON."""
        rows = len(self._of_row)
        if rows < FEWEST_ROWS or self._looking <= 0.5 * rows:
            return
        codes = np.asarray(self._of_row)
        broken = np.flatnonzero(codes == _TEXT)
        if len(broken):
            yield Finding(
                "json_invalid", "warn", "answer is no JSON, most others are", "correct these answers",
                self._places(broken.tolist()),
            )  # fmt: skip
        odd = self._odd(codes)
        if odd:
            places = np.flatnonzero(np.isin(codes, list(odd))).tolist()
            yield Finding(
                "json_schema_differs", "warn",
                f"answer's keys or types differ from nearly all others ({odd[self._of_row[places[0]]]})",
                "give all answers the same keys and types", self._places(places),
            )  # fmt: skip

    def _code(self, answer: str) -> int:
        if answer[:1].isalpha() and answer[0] not in _LITERAL:
            return _TEXT  # as an error would say, which costs more than all else here
        try:
            value = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return _TEXT
        if not isinstance(value, dict) or len(value) > LARGEST_SHAPE or len(self._shapes) > MOST_SHAPES:
            return _OTHER
        shape = tuple(sorted((key, _kind(item)) for key, item in value.items()))
        return self._shapes.setdefault(shape, len(self._shapes))

    def _odd(self, codes: Any) -> dict[int, str]:
        """Shapes that lack a usual key, have an unusual one, or another type in a usual place; with why."""
        if len(self._shapes) > MOST_SHAPES:
            return {}
        often = np.bincount(codes[codes >= 0], minlength=len(self._shapes)).tolist()
        count = sum(often)
        keys: Counter[str] = Counter()
        kinds: Counter[tuple[str, str]] = Counter()
        for shape, times in zip(self._shapes, often, strict=True):
            for key, kind in shape:
                keys[key] += times
                kinds[key, kind] += times
        usual = {key for key, n in keys.items() if n >= USUAL * count}
        typed = {key: kind for (key, kind), n in kinds.items() if n >= USUAL * keys[key] and n >= ENOUGH_TO_COMPARE}
        rare = {key for key, n in keys.items() if n < UNUSUAL * count}
        return {code: why for shape, code in self._shapes.items() if (why := _oddity(shape, usual, rare, typed))}

    def _places(self, rows: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._examples[i].origin for i in rows)


def _oddity(shape: Shape, usual: set[str], rare: set[str], typed: dict[str, str]) -> str:
    have = [key for key, _ in shape]
    missing = sorted(usual.difference(have))
    strange = [key for key in have if key in rare]
    other = [key for key, kind in shape if kind != "NoneType" and typed.get(key, kind) != kind]
    for what, names in (("missing", missing), ("unusual", strange), ("of another type", other)):
        if names:
            return f"'{names[0]}' is {what}"
    return ""


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__
