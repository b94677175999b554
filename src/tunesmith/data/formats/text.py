"""`{"text": "..."}`, or a text or Markdown file: text to be continued, for pre-training.

A file may hold conversations among its texts (`{"messages": [...]}`): documents too, learned whole.
"""

from __future__ import annotations

from typing import Any

from ...core.messages import Kind, Row
from ...core.messages import Text as TextRow
from .base import extras, of_kind, rest, text_field
from .conversation import as_json, messages_of, tools_key, tools_of


class Text:
    """One document a row."""

    name = "text"
    kind: Kind = "text"

    def matches(self, row: dict[str, Any]) -> bool:
        """A `text` key decides, or `messages` where a format that learns from answers did not come first."""
        return "text" in row or "messages" in row

    def parse(self, row: dict[str, Any]) -> TextRow:
        """The text as it stands; without one, the conversation."""
        if row.get("text") is None and "messages" in row:
            turns, tools = messages_of(row["messages"], "messages"), tools_of(row.get("tools"))
            return TextRow(messages=turns, tools=tools, metadata=rest(row, {"text", "messages", "tools"}))
        return TextRow(text=text_field(row, "text"), metadata=rest(row, {"text"}))

    def export(self, row: Row) -> dict[str, Any]:
        """Every text fits."""
        mine = of_kind(row, TextRow, self.name)
        turns = {"messages": as_json(mine.messages)} | tools_key(mine.tools)
        return (turns if mine.messages else {"text": mine.text}) | extras(mine.metadata)
