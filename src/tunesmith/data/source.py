"""A file to rows with their places, however it is packed. Strict: what cannot be read is a problem with a reason."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from ..core.errors import ContentError, MissingError
from . import columnar
from .compressed import BUFFER, GZIP, ZSTD, opened
from .lines import json_array, json_lines
from .places import require_file
from .plain import speaks, text_rows
from .raw import HUGE, LIMITS, DamagedError, Limits, RawRow, loses_digits, oddity
from .tables import header, table_rows

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive or an office document"), (b"%PDF", "a PDF"), (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ", "compressed with xz"), (b"SQLite format", "a SQLite database"),
    (b"FEA1", "a Feather file, version 1"),
    (b"\x1f\x8b", "compressed twice"), (b"\x28\xb5\x2f\xfd", "compressed twice"),
    (b"PAR1", "a compressed Parquet file"), (b"ARROW1", "a compressed Arrow file"),
)  # fmt: skip
_COLUMNAR = (columnar.PARQUET, columnar.ARROW, columnar.ARROW_STREAM)
_TEXT = (".txt", ".md", ".markdown", ".text")
_JSON = (".jsonl", ".json", ".ndjson")
_TABLES = (".csv", ".tsv")
_PACKED = (".gz", ".zst", ".zstd")
_ARRAY = re.compile(rb"\[\s*(?:[{\]\[\"]|$)")

Known = Callable[[list[str]], bool]


def rows(path: Path, *, asked: str | None, known: Known, limits: Limits = LIMITS) -> Iterator[RawRow]:
    """Every row of the file, good and bad.

    How the file is packed is told by its content, the name decides where the content does not. `asked` is the row
    format asked for; `known` says whether a table's column names are those of a format.
    Raises MissingError and ContentError for a file that cannot be read at all.
    """
    head = _head(path)
    found = columnar.columnar_rows(path, head, limits) if head.startswith(_COLUMNAR) else _streamed(
        path, asked, known, limits
    )  # fmt: skip
    for raw in found:
        yield checked(raw, limits)


def checked(raw: RawRow, limits: Limits) -> RawRow:
    """The row, or the reason for which it is none that is meant."""
    odd = None if raw.reason else oddity(raw.value, limits)
    if odd is HUGE and not (raw.text and loses_digits(raw.text)):
        return raw
    return RawRow(raw.line, reason=odd) if odd else raw


def plain(path: Path) -> bool:
    """Whether the file's bytes are its text: neither compressed nor a columnar file."""
    return not _head(path).startswith((*_COLUMNAR, GZIP, ZSTD))


def _head(path: Path) -> bytes:
    """The first bytes; errors that name the mend for what is absent or no file."""
    require_file(path)
    try:
        with path.open("rb") as file:
            return file.read(8)
    except PermissionError as error:
        raise MissingError(f"cannot read {path}", why="permission denied", mend="change its permissions") from error


def _streamed(path: Path, asked: str | None, known: Known, limits: Limits) -> Iterator[RawRow]:
    with opened(path, limits) as stream:
        try:
            head = stream.peek(BUFFER)
        except DamagedError as error:
            raise ContentError(f"{path} cannot be read", why=str(error), mend="fetch or compress it anew") from None
        _require_utf8(path, head)
        if head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
            head = head.removeprefix(codecs.BOM_UTF8)
        empty, array = True, head.lstrip().startswith(b"[")
        for raw in _packed(path, stream, head, asked, known, limits):
            empty = False
            yield raw
        if empty and not array:
            raise ContentError(f"{path} is empty", mend="give a file with one JSON object a line")


def _packed(
    path: Path, stream: io.BufferedReader, head: bytes, asked: str | None, known: Known, limits: Limits
) -> Iterator[RawRow]:
    """The reader for what the file begins with."""
    start, suffix = head.lstrip(), _suffix(path)
    array = bool(_ARRAY.match(start)) or (start.startswith(b"[") and suffix not in _TEXT)
    named_text = asked == "text" and suffix in _TEXT
    said = speaks(head) and suffix not in (*_JSON, *_TABLES) and asked in (None, "transcript")
    if not start.startswith(b"{") and not array and (asked == "transcript" or said) and suffix not in _TABLES:
        return text_rows(stream, "transcript", limits)
    if named_text:
        return text_rows(stream, "text", limits)
    if array:
        return json_array(stream, limits)
    delimiter, names = header(head)
    if not start.startswith(b"{") and suffix not in _JSON and (suffix in _TABLES or known(names)):
        return table_rows(stream, "\t" if suffix == ".tsv" else delimiter, limits)
    if suffix in _TEXT and not start.startswith(b"{"):
        return text_rows(stream, "text", limits)
    return json_lines(stream, limits)


def _suffix(path: Path) -> str:
    """The ending of the name, that of a compression left out."""
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def _require_utf8(path: Path, head: bytes) -> None:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            _encoded(path, encoding, f"it starts with the mark of {encoding}")
    for mark, what in _FOREIGN:
        if head.startswith(mark):
            mend = "unpack it, and give JSON Lines, CSV, Parquet or text, compressed once (gzip, zstd) or not at all"
            raise ContentError(f"{path} is {what}", mend=mend)
    sample = head[:4096]
    if 3 * sample.count(0) > len(sample):
        _encoded(path, "UTF-16LE" if sample[1::2].count(0) > sample[0::2].count(0) else "UTF-16BE", "it looks like it")


def _encoded(path: Path, encoding: str, why: str) -> NoReturn:
    raise ContentError(
        f"{path} is not in UTF-8", why=why,
        mend=f"convert it: iconv -f {encoding} -t UTF-8 '{path.name}' > '{path.stem}-utf8{path.suffix}'",
    )  # fmt: skip
