"""Names and places: they have no shape, so an analyzer that has read many texts finds them, beside the finds by shape.

The analyzer is Presidio's `AnalyzerEngine`, or whatever has its `analyze`; this file knows neither it nor its models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .hits import Hit
from .mask import PLACEHOLDER
from .scan import apart, find

KINDS = {"PERSON": "person", "LOCATION": "place"}
"""Presidio's entity to the kind in reports and placeholders."""


class Span(Protocol):
    """A find of an analyzer: `text[start:end]`, how sure it is (0 to 1)."""

    @property
    def entity_type(self) -> str:
        """One of those asked for."""

    @property
    def start(self) -> int:
        """Of the first character."""

    @property
    def end(self) -> int:
        """Behind the last one."""

    @property
    def score(self) -> float:
        """How sure it is."""


class Analyzer(Protocol):
    """What is asked of Presidio's `AnalyzerEngine`."""

    def analyze(self, text: str, language: str, *, entities: list[str]) -> Sequence[Span]:
        """The finds of these entities in a text."""


class Names:
    """Finds by shape and, outside them, names and places of which the analyzer is at least half sure."""

    def __init__(self, analyzer: Analyzer, language: str, floor: float = 0.5):
        self._analyzer, self._language, self._floor = analyzer, language, floor

    def find(self, text: str) -> list[Hit]:
        """All finds, in order and without overlaps. Placeholders, and what holds a bracket, are left alone."""
        if not text.strip():
            return []
        spans = self._analyzer.analyze(text, self._language, entities=list(KINDS))
        masked = [(match.start(), match.end()) for match in PLACEHOLDER.finditer(text)] if "[" in text else []
        named = [
            Hit(KINDS[span.entity_type], span.start, span.end)
            for span in sorted(spans, key=lambda span: (-span.score, span.start - span.end, span.start))
            if span.entity_type in KINDS
            and span.score >= self._floor
            and text[span.start : span.end].strip()
            and not {"[", "]"} & set(text[span.start : span.end])
            and all(span.end <= start or end <= span.start for start, end in masked)
        ]
        return apart([*find(text), *named])
