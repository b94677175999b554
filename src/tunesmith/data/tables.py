"""CSV and TSV: a header, then a row of cells for each row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from ..core.errors import ContentError
from .lines import bounded, too_long
from .raw import DamagedError, Limits, RawRow

DELIMITERS = (",", "\t", ";")


class _LongLineError(Exception):
    """A line over the limit."""


class _Lines:
    """Text lines for the csv module. An iterator that can go on behind an error, which a generator cannot."""

    def __init__(self, stream: io.BufferedReader, limits: Limits):
        self._lines, self.number = bounded(stream, limits), 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if line is None:
            raise _LongLineError
        return line.decode("utf-8", "surrogateescape")


def header(head: bytes) -> tuple[str, list[str]]:
    """(delimiter, names) of the first line: the delimiter that gives the most columns."""
    first = head.lstrip(b"\r\n").split(b"\n")[0].decode("utf-8", "replace")
    found = []
    for delimiter in DELIMITERS:
        try:
            found.append((delimiter, next(csv.reader([first], delimiter=delimiter), [])))
        except csv.Error:
            continue
    return max(found, key=lambda pair: len(pair[1]), default=(",", []))


def table_rows(stream: io.BufferedReader, delimiter: str, limits: Limits) -> Iterator[RawRow]:
    """Each row as an object of texts; `line` is the one on which it begins."""
    csv.field_size_limit(limits.row)
    lines = _Lines(stream, limits)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names: list[str] | None = None
    while True:
        line = lines.number + 1
        try:
            cells = next(reader)
            if names is None:
                names = _names(cells, limits)
            elif cells:
                yield _row(line, names, cells)
        except StopIteration:
            return
        except _LongLineError:
            yield RawRow(lines.number, reason=too_long(limits))
        except csv.Error as error:
            yield RawRow(line, reason=f"not a row of a table: {error}")
        except DamagedError as error:
            yield RawRow(line, reason=str(error))
            return


def _names(cells: list[str], limits: Limits) -> list[str] | None:
    names = [cell.strip() for cell in cells]
    if not any(names):
        return None
    if len(names) > limits.columns:
        raise ContentError(f"the table has {len(names)} columns; at most {limits.columns} are read",
                           mend="write a table with the columns that are needed")  # fmt: skip
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ContentError(f"the table has two columns '{twice[0]}'", mend="rename one of them in its first line")
    return names


def _row(line: int, names: list[str], cells: list[str]) -> RawRow:
    if len(cells) != len(names):
        return RawRow(line, reason=f"the row has {len(cells)} cells, but the header names {len(names)}")
    if any("\udc80" <= letter <= "\udcff" for cell in cells if not cell.isascii() for letter in cell):
        return RawRow(line, reason="the row is not UTF-8; is the file Latin-1? (iconv -f ISO-8859-1 -t UTF-8)")
    return RawRow(line, dict(zip(names, cells, strict=True)), tabular=True)
