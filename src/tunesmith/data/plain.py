"""Text and Markdown files: documents for pre-training, and transcripts."""

from __future__ import annotations

import io
from collections.abc import Iterator

from .formats.transcript import LABEL
from .lines import bounded, too_long
from .raw import DamagedError, Limits, RawRow

RULE = b"---"
_LOOKED_AT = 12


def speaks(head: bytes) -> bool:
    """Whether a text begins like a transcript: by a label, with two or three speakers, most lines with a label."""
    lines = [line for line in head.decode("utf-8", "replace").splitlines() if line.strip()][:_LOOKED_AT]
    labels = [label for label in map(LABEL.match, lines) if label]
    names = {label["speaker"].casefold() for label in labels}
    return len(names) in (2, 3) and LABEL.match(lines[0]) is not None and 2 * len(labels) > len(lines)


def text_rows(stream: io.BufferedReader, key: str, limits: Limits) -> Iterator[RawRow]:
    """A text under `key`, by the line on which it begins.

    A transcript ends at a line of `---`. Any other text is one row, but a long one several: cut at an empty line
    behind `limits.document`, and at any line behind four times as much. Joined, the pieces are the file.
    """
    piece: list[bytes] = []
    first, number, size = 1, 0, 0
    try:
        for number, line in bounded(stream, limits):
            if line is None:
                yield from _row(first, piece, key)
                yield RawRow(number, reason=too_long(limits))
                piece, first, size = [], number + 1, 0
                continue
            rule = key == "transcript" and line.strip() == RULE
            if not rule:
                piece.append(line)
                size += len(line)
            full = size > 4 * limits.document or (size > limits.document and not line.strip())
            if rule or (full and key == "text"):
                yield from _row(first, piece, key)
                piece, first, size = [], number + 1, 0
            elif size > limits.row:
                yield RawRow(first, reason=f"a conversation is too long; put a line of {RULE.decode()} between two")
                piece, first, size = [], number + 1, 0
        yield from _row(first, piece, key)
    except DamagedError as error:
        yield from _row(first, piece, key)
        yield RawRow(number + 1, reason=str(error))


def _row(line: int, piece: list[bytes], key: str) -> Iterator[RawRow]:
    content = b"".join(piece)
    if not content.strip():
        return
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        at = line + content[: error.start].count(b"\n")
        yield RawRow(at, reason="the text is not UTF-8; is the file Latin-1? (iconv -f ISO-8859-1 -t UTF-8)")
        return
    yield RawRow(line, {key: text.replace("\r\n", "\n")})
