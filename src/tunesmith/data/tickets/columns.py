"""Values of a row by the names that a mapping gives them, and how texts, flags and times are spelled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..formats.base import RowError

Row = Mapping[str, Any]
_ABSENT = object()
_TRUE = frozenset(("true", "1", "yes", "y", "t", "public", "incoming", "inbound"))
_FALSE = frozenset(("false", "0", "no", "n", "f", "private", "internal", "outgoing", "outbound"))
_MILLISECONDS = 1e11
"""Unix times beyond this are in milliseconds: in seconds it is the year 5138."""


def _at(row: Any, name: str) -> Any:
    """The value under a name, or under its parts inside objects."""
    if isinstance(row, Mapping) and name in row:
        return row[name]
    for part in name.split("."):
        if row is None:
            return None  # an object that is null has all keys, and all are null
        if not isinstance(row, Mapping) or part not in row:
            return _ABSENT
        row = row[part]
    return row


def has(row: Row, names: Sequence[str]) -> bool:
    """Whether the row has one of the columns."""
    return any(_at(row, name) is not _ABSENT for name in names)


def value(row: Row, names: Sequence[str]) -> Any:
    """The first of the columns that is filled; None where none is."""
    for name in names:
        found = _at(row, name)
        if found is not _ABSENT and found is not None and found != "":
            return found
    return None


def text(row: Row, names: Sequence[str]) -> str:
    """The value as text; "" where there is none."""
    return spelled(value(row, names))


def texts(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    """Every value of all the columns; lists are laid open."""
    found = [_at(row, name) for name in names]
    flat = [item for one in found for item in (one if isinstance(one, list) else [one])]
    return tuple(filled for filled in map(spelled, flat) if filled)


def spelled(item: Any) -> str:
    """A value as a table would have it."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float) and item.is_integer():
        return str(int(item))
    return str(item).strip() if isinstance(item, str | int | float) else ""


def flag(row: Row, names: Sequence[str]) -> bool | None:
    """A yes or no; None where the cell says neither."""
    word = text(row, names).casefold()
    return True if word in _TRUE else False if word in _FALSE else None


def any_of(row: Row, meant: Mapping[str, Iterable[str]]) -> bool:
    """Whether a column holds one of the values that are meant for it."""
    return any(text(row, (name,)).casefold() in words for name, words in meant.items())


def number(row: Row, names: Sequence[str]) -> float | None:
    """A number; RowError for what is none."""
    found = text(row, names)
    if not found:
        return None
    try:
        made = float(found)
    except ValueError:
        made = math.nan
    if not math.isfinite(made):
        raise RowError(f"'{' or '.join(names)}' is no number: {found[:40]!r}")
    return made


def time(row: Row, names: Sequence[str], form: str | None) -> float | None:
    """Seconds since 1970 in UTC; a time without a zone is UTC. RowError for what cannot be read as a time."""
    found = text(row, names)
    if not found:
        return None
    try:
        return moment(found, form).timestamp()
    except (ValueError, OverflowError, OSError):
        how = f"'{form}'" if form else "ISO 8601 or a Unix time; name the form with time_format"
        raise RowError(f"'{' or '.join(names)}' is no time: {found[:40]!r} is not {how}") from None


def moment(found: str, form: str | None = None) -> datetime:
    """A time in UTC. ValueError, OverflowError, OSError."""
    if form:
        made = datetime.strptime(found, form)  # noqa: DTZ007 - the zone is set below
    elif found.lstrip("-").replace(".", "", 1).isdecimal() and len(found) > len("20240131"):
        seconds = float(found)
        made = datetime.fromtimestamp(seconds / 1000 if seconds > _MILLISECONDS else seconds, UTC)
    else:
        made = datetime.fromisoformat(found.removesuffix(" UTC"))
    return made.replace(tzinfo=UTC) if made.tzinfo is None else made.astimezone(UTC)
