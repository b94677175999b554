"""What a row format must offer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from ...core.messages import Message


class RowError(Exception):
    """A row cannot be used; the text is the reason, without file and line."""


@dataclass(frozen=True)
class Parsed:
    """A row in common form."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class Format(Protocol):
    """Turns a JSON object into messages."""

    @property
    def name(self) -> str:
        """The name used in recipes and on the command line."""

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether the row's keys are this format's."""

    def parse(self, row: dict[str, Any]) -> Parsed:
        """The row in common form; RowError with the reason when it is not usable."""


def text_field(row: dict[str, Any], key: str, *, required: bool = True) -> str:
    """The string at `key`; a RowError when it is absent, empty or of another type."""
    value = row.get(key)
    if value is None and not required:
        return ""
    if value is None:
        raise RowError(f"'{key}' is missing")
    if not isinstance(value, str):
        raise RowError(f"'{key}' must be a string, not {type(value).__name__}")
    if required and not value.strip():
        raise RowError(f"'{key}' is empty")
    return value


def rest(row: dict[str, Any], used: set[str]) -> dict[str, Any]:
    """The keys that the model never sees; an object under `metadata` is laid open."""
    kept = {key: value for key, value in row.items() if key not in used and key != "metadata"}
    metadata = row.get("metadata")
    return kept | (metadata if isinstance(metadata, dict) else {})
