"""The items of a JSON array out of a byte stream, told apart by their brackets: it is never in memory as a whole."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from .raw import DamagedError, Limits

_PIECE = 1 << 16
_MARK = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
"""What stands in a string, up to its end; a backslash at the end of what was read waits for the next piece."""
_QUOTE, _COMMA, _OPENING = b'"'[0], b","[0], b"[{"


def array_items(stream: io.BufferedReader, limits: Limits) -> Iterator[bytes | None]:
    """The text of each item of the array that the stream begins with; None for one over the limit of a row.

    Whether an item is JSON is not looked at. DamagedError where the array has no end, or something stands behind it.
    """
    buffer, scan, depth, number, quoted, over = bytearray(), 0, 0, 0, False, False
    while piece := stream.read(_PIECE):
        buffer += piece
        start = 0
        while True:
            if quoted:
                scan = _end(buffer, scan)
                if scan == len(buffer) or buffer[scan] != _QUOTE:
                    break
                scan, quoted = scan + 1, False
            mark = _MARK.search(buffer, scan)
            if not mark:
                scan = len(buffer)
                break
            letter, scan = buffer[mark.start()], mark.end()
            quoted = letter == _QUOTE
            if letter in _OPENING:
                depth += 1
                start = scan if depth == 1 else start
            elif letter != _COMMA and not quoted:
                depth -= 1
            if depth == 0 or (depth == 1 and letter == _COMMA):
                item = bytes(buffer[start : mark.start()])
                if letter == _COMMA or number or over or item.strip():
                    yield None if over else item
                number, start, over = number + 1, scan, False
            if depth == 0:
                _require_end(bytes(buffer[scan:]), stream)
                return
        del buffer[:start]
        scan -= start
        if len(buffer) > limits.row:
            over = True
            del buffer[:scan]
            scan = 0
    raise DamagedError("the JSON array has no end")


def _end(buffer: bytearray, scan: int) -> int:
    found = _INSIDE.match(buffer, scan)
    return found.end() if found else scan


def _require_end(rest: bytes, stream: io.BufferedReader) -> None:
    while not rest.strip():
        rest = stream.read(_PIECE)
        if not rest:
            return
    raise DamagedError("something stands behind the end of the JSON array")
