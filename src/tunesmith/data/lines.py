"""Lines, JSON Lines and JSON arrays of a byte stream."""

from __future__ import annotations

import io
from collections.abc import Iterator

import orjson

from .arrays import array_items
from .raw import DamagedError, Limits, RawRow, megabytes

_SKIPPED = 1 << 20
_SPREAD = (
    "the file is one JSON object over several lines: write one object a line (JSON Lines), or a list of them [...]"
)


def bounded(stream: io.BufferedReader, limits: Limits) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, line) as an editor counts them; None for a line over the limit, which is passed over."""
    number = 0
    while line := stream.readline(limits.row + 1):
        number += 1
        if len(line) <= limits.row or line.endswith(b"\n"):
            yield number, line
            continue
        while (piece := stream.readline(_SKIPPED)) and not piece.endswith(b"\n"):
            pass
        yield number, None


def too_long(limits: Limits) -> str:
    """The reason for a line over the limit."""
    return f"the line is longer than {megabytes(limits.row)}"


def json_lines(stream: io.BufferedReader, limits: Limits) -> Iterator[RawRow]:
    """One JSON value a line."""
    number = 0
    try:
        for number, line in bounded(stream, limits):
            if number == 1 and line is not None and line.strip() == b"{":
                yield RawRow(1, reason=_SPREAD)
                return
            if line is None:
                yield RawRow(number, reason=too_long(limits))
            elif line.strip():
                yield json_line(number, line)
    except DamagedError as error:
        yield RawRow(number + 1, reason=str(error))


def json_array(stream: io.BufferedReader, limits: Limits) -> Iterator[RawRow]:
    """The items of one array, counted from 1, each as soon as its end is read; what breaks the array is the last."""
    number = 0
    try:
        for number, item in enumerate(array_items(stream, limits), start=1):
            if item is None:
                yield RawRow(number, reason=f"the item is longer than {megabytes(limits.row)}")
            else:
                yield json_line(number, item)
    except DamagedError as error:
        yield RawRow(number + 1, reason=str(error))


def json_line(number: int, line: bytes) -> RawRow:
    """The row on a line."""
    try:
        return RawRow(number, orjson.loads(line), text=line)
    except orjson.JSONDecodeError as error:
        return RawRow(number, reason=f"invalid JSON: {error.msg} at column {error.colno}")
