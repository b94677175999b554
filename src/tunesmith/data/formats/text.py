"""`{"text": "..."}`, or a text or Markdown file: text to be continued, for pre-training."""

from __future__ import annotations

from typing import Any

from ...core.messages import Kind, Row
from ...core.messages import Text as TextRow
from .base import extras, of_kind, rest, text_field


class Text:
    """One document a row."""

    name = "text"
    kind: Kind = "text"

    def matches(self, row: dict[str, Any]) -> bool:
        """A `text` key decides."""
        return "text" in row

    def parse(self, row: dict[str, Any]) -> TextRow:
        """The text as it stands."""
        return TextRow(text=text_field(row, "text"), metadata=rest(row, {"text"}))

    def export(self, row: Row) -> dict[str, Any]:
        """Every text fits."""
        mine = of_kind(row, TextRow, self.name)
        return {"text": mine.text} | extras(mine.metadata)
