"""`{"messages": [{"role", "content", ...}], "tools": [...]}`: OpenAI's chat rows."""

from __future__ import annotations

from typing import Any

from ...core.messages import Example, Kind, Row
from .base import extras, of_kind, rest
from .conversation import as_json, messages_of, tools_key, tools_of, trainable


class Chat:
    """Rows with a `messages` list."""

    name = "chat"
    kind: Kind = "supervised"

    def matches(self, row: dict[str, Any]) -> bool:
        """A `messages` key decides."""
        return "messages" in row

    def parse(self, row: dict[str, Any]) -> Example:
        """Check roles, contents, weights and tools; at least one assistant turn must carry loss."""
        messages = trainable(messages_of(row.get("messages"), "messages"))
        return Example(
            messages=messages, tools=tools_of(row.get("tools")), metadata=rest(row, {"messages", "tools"})
        )  # fmt: skip

    def export(self, row: Row) -> dict[str, Any]:
        """Every supervised row fits."""
        example = of_kind(row, Example, self.name)
        return {"messages": as_json(example.messages)} | tools_key(example.tools) | extras(example.metadata)
