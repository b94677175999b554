"""Bytes of a file to rows with their places. Strict: what cannot be read is a problem with a reason."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ..core.errors import ContentError, MissingError

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file: a JSON value, or the reason why there is none."""

    line: int
    value: Any = None
    reason: str | None = None


def read_file(path: Path) -> bytes:
    """The whole file in UTF-8; errors that name the mend for absent, empty and otherwise encoded files."""
    if not path.exists():
        raise MissingError(f"no such file: {path}", mend="check the path; relative ones start at the recipe's folder")
    if not path.is_file():
        raise ContentError(f"not a file: {path}", mend="name the file of examples itself")
    try:
        content = path.read_bytes()
    except PermissionError as error:
        raise MissingError(f"cannot read {path}", why="permission denied", mend="change its permissions") from error
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            raise ContentError(
                f"{path} is not in UTF-8", why=f"it starts with the mark of {encoding}",
                mend=f"convert it: iconv -f {encoding} -t UTF-8 '{path.name}' > '{path.stem}-utf8{path.suffix}'",
            )  # fmt: skip
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise ContentError(f"{path} is empty", mend="give a file with one JSON object a line")
    return content


def rows(content: bytes) -> Iterator[RawRow]:
    """Rows of JSON Lines, or of one JSON array (then `line` counts the array's items from 1)."""
    if content.lstrip().startswith(b"["):
        yield from _array(content)
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield _row(number, line)


def _row(number: int, line: bytes) -> RawRow:
    try:
        return RawRow(number, orjson.loads(line))
    except orjson.JSONDecodeError as error:
        return RawRow(number, reason=f"invalid JSON: {error.msg} at column {error.colno}")


def _array(content: bytes) -> Iterator[RawRow]:
    try:
        items = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        yield RawRow(error.lineno, reason=f"invalid JSON array: {error.msg} at column {error.colno}")
        return
    for number, item in enumerate(items, start=1):
        yield RawRow(number, item)
