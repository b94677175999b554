"""What a row format must offer, and what several of them need."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from ...core.messages import Example, Kind, Row

R = TypeVar("R", bound=Row)


class RowError(Exception):
    """A row cannot be used; the text is the reason, without file and line."""


class Format(Protocol):
    """Turns a JSON object into a row, and a row into such an object again."""

    @property
    def name(self) -> str:
        """The name used in recipes and on the command line."""

    @property
    def kind(self) -> Kind:
        """What the rows can teach."""

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether the row's keys are this format's."""

    def parse(self, row: dict[str, Any]) -> Row:
        """The row in common form; RowError with the reason when it is not usable."""

    def export(self, row: Row) -> dict[str, Any]:
        """The row in this format; RowError with the reason when the format has no place for a part of it."""


def exported(format: Format, row: Row) -> dict[str, Any]:
    """`format.export(row)`, given out only when it reads back as the same row: nothing is lost in silence."""
    made = format.export(row)
    try:
        same = format.matches(made) and format.parse(made) == row.model_copy(update={"origin": ""})
    except RowError as error:
        raise RowError(f"'{format.name}' cannot hold it: {error}") from None
    if not same:
        raise RowError(f"'{format.name}' cannot hold it: it would read back as another row")
    return made


def of_kind(row: Row, wanted: type[R], name: str) -> R:
    """The row when it is of the kind that format `name` holds; a RowError otherwise."""
    if not isinstance(row, wanted):
        raise RowError(f"a row of kind '{row.kind}' cannot be written as '{name}'")
    return row


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
    """The keys that the model never sees; an object under `metadata` is laid open.

    Where that would lose a value, for another stands under the same key beside it, the object stays as it is.
    """
    kept = {key: value for key, value in row.items() if key not in used and key != "metadata"}
    metadata = row.get("metadata")
    if metadata is None:
        return kept
    if not isinstance(metadata, dict) or any(repr(kept[key]) != repr(metadata[key]) for key in kept.keys() & metadata):
        return kept | {"metadata": metadata}
    return kept | metadata


def extras(metadata: dict[str, Any]) -> dict[str, Any]:
    """What `rest` reads back as `metadata`."""
    return {"metadata": metadata} if metadata else {}


def plain_turns(row: Row, name: str) -> list[tuple[str, str]]:
    """(role, text) of each turn of a supervised row; a RowError where a turn or the row holds more than that."""
    example = of_kind(row, Example, name)
    if example.tools:
        raise RowError(f"'{name}' has no place for tools")
    turns: list[tuple[str, str]] = []
    for index, message in enumerate(example.messages):
        more = message.model_dump(exclude_none=True, exclude={"role", "content"})
        if more:
            raise RowError(f"'{name}' has no place for '{next(iter(more))}' of messages[{index}]")
        turns.append((message.role, message.content or ""))
    return turns


def one_exchange(row: Row, name: str) -> tuple[str, str]:
    """(question, answer) of a supervised row that is one user and one assistant turn; a RowError otherwise."""
    turns = plain_turns(row, name)
    if [role for role, _ in turns] != ["user", "assistant"]:
        raise RowError(f"'{name}' holds one user and one assistant turn, not " + ", ".join(role for role, _ in turns))
    return turns[0][1], turns[1][1]
