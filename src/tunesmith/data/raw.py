"""Rows as they stand in a file, and the limits that keep reading within bounds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a file may hold. They are far beyond data that is meant, and keep memory and time bounded for the rest."""

    row: int = 64 * MIB
    """Bytes of one row: a line, or an item of a JSON array."""
    document: int = MIB
    """Bytes at which a plain text is cut, between paragraphs, into another row."""
    columns: int = 2000
    """Keys of one object, columns of a table."""
    depth: int = 100
    """Lists and objects inside each other."""
    expansion: int = 100
    """How often larger a compressed file may be once it is read."""
    expanded: int = 256 * MIB
    """Bytes that a compressed file may always grow to, however small it is."""
    problems: int = 100_000
    """Bad rows that are listed; behind them a file is not read on."""

    def budget(self, size: int) -> int:
        """Bytes that a compressed file of `size` bytes may grow to."""
        return max(self.expanded, self.expansion * size)


LIMITS = Limits()


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file: a JSON value, or the reason why there is none."""

    line: int
    value: Any = None
    reason: str | None = None
    tabular: bool = False
    """Whether it comes from a table, where JSON stands as text in a cell and an absent value is null."""
    text: bytes = b""
    """The JSON that it was read from, where it was."""


class DamagedError(Exception):
    """The file cannot be read on from here; the text is the reason."""


LARGEST, _LONGEST = 2.0**63, 300
"""The least float that may have been an integer beyond 64 bits; characters of an integer that may be a float."""
HUGE = "a number of more than 64 bits would lose digits: write it as text"


def loses_digits(text: bytes) -> bool:
    """Whether JSON holds an integer beyond 64 bits, which is read as a float, and that float is another number."""
    found: list[str] = []

    def whole(digits: str) -> int:
        if len(digits) > _LONGEST or (not -(2**63) <= int(digits) < 2**64 and int(float(digits)) != int(digits)):
            found.append(digits)
        return 0

    json.loads(text, parse_int=whole)
    return bool(found)


def oddity(value: Any, limits: Limits = LIMITS) -> str | None:
    """Why a JSON value is none that is meant: too deep, too wide, or with NUL characters; None when it is fine.

    HUGE for a float that may have been an integer beyond 64 bits.
    """
    level, depth, huge = [value], 0, False
    while level:
        if depth > limits.depth:
            return f"lists and objects are nested more than {limits.depth} deep"
        below: list[Any] = []
        for item in level:
            if isinstance(item, str) and "\0" in item:
                return "a text holds a NUL character"
            if isinstance(item, list):
                below += item
            elif isinstance(item, dict):
                if len(item) > limits.columns:
                    return f"an object has {len(item)} keys; at most {limits.columns} are read"
                below += item
                below += item.values()
            elif isinstance(item, float) and abs(item) >= LARGEST:
                huge = True
        level, depth = below, depth + 1
    return HUGE if huge else None


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / MIB:.3g} MB"
