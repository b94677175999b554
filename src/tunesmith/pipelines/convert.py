"""A file of rows in another format. Nothing is lost in silence: a row that the format cannot hold stops the writing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import zstandard

from ..core import files
from ..core.errors import ConflictError, ContentError, UsageError
from ..core.messages import Row
from ..data.formats import Format, RowError, exported, named, table
from ..data.hub import local
from ..data.load import Loaded, load

ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
_SHOWN = 5


@dataclass(frozen=True)
class Converted:
    """What was read and written."""

    read_as: str
    kind: str
    written_as: str
    rows: int
    path: Path


def convert(
    file: Path, out: Path, *, to: str, format: str | None = None, columns: Mapping[str, str] | None = None,
    assistant: str | None = None,
) -> Converted:  # fmt: skip
    """Write every row of `file` to `out` in the format `to`.

    ContentError when a row cannot be read, or cannot be held by the format; nothing is written then.
    """
    target = named(to, table(assistant))
    require_new(out)
    loaded = load(local(file), format=format, columns=columns, assistant=assistant)
    _require_whole(loaded)
    new = not out.parent.exists()
    files.make_folder(out.parent)
    try:
        files.write_pieces(out, packed(_rows(loaded, target), out.name))
    except ContentError:
        if new:
            with suppress(OSError):
                out.parent.rmdir()
        raise
    return Converted(loaded.format, loaded.kind, to, len(loaded.records), out)


def _rows(loaded: Loaded, target: Format) -> Iterator[bytes]:
    """Each row as JSON; ContentError once all were tried, where some do not fit."""
    refused: list[str] = []
    for row in loaded.records:
        try:
            text = as_json(target, row)
        except RowError as error:
            refused.append(f"{row.origin}: {error}")
            continue
        if not refused:
            yield text
    if refused:
        raise _stopped(f"{len(refused)} of {loaded.rows} rows do not fit into '{target.name}'", refused,
                       "convert to a format that holds them: 'chat' holds all supervised rows")  # fmt: skip


def _require_whole(loaded: Loaded) -> None:
    if loaded.problems:
        reasons = [f"{problem.place}: {problem.reason}" for problem in loaded.problems]
        raise _stopped(f"{len(reasons)} of {loaded.rows} rows of {loaded.path} cannot be read", reasons,
                       f"correct or remove them; tunesmith check {loaded.path} lists them all")  # fmt: skip


def _stopped(what: str, reasons: list[str], mend: str) -> ContentError:
    more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    where = reasons[0].partition(": ")[0]
    return ContentError(what, where=where, why="; ".join([*reasons[:_SHOWN], *more]), mend=mend)


def as_json(target: Format, row: Row) -> bytes:
    """The row as JSON text; a RowError where JSON has no place for a value (a number beyond 64 bits, say)."""
    made: dict[str, Any] = exported(target, row)
    try:
        text = orjson.dumps(made)
    except (TypeError, ValueError) as error:
        raise RowError(f"it cannot be written as JSON: {error}") from None
    if orjson.loads(text) != made:
        raise RowError("it cannot be written as JSON: a number of it is none")
    return text


def require_new(out: Path) -> None:
    """UsageError where the name says no way of writing, ConflictError where something is there."""
    if not out.name.endswith(ENDINGS):
        raise UsageError(f"{out.name} says no way of writing", mend="end it with one of " + ", ".join(ENDINGS))
    if out.exists():
        raise ConflictError(f"{out} is there already", mend="remove it, or name another with --out")


def packed(rows: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Rows as JSON texts to the content of a file of that name, a piece at a time."""
    array = ".json" in name and ".jsonl" not in name
    content = _array(rows) if array else (row + b"\n" for row in rows)
    if not name.endswith((".gz", ".zst")):
        yield from content
        return
    gzip = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)  # its head tells no time: equal rows, equal files
    packer: Any = gzip if name.endswith(".gz") else zstandard.ZstdCompressor().compressobj()
    for piece in content:
        yield packer.compress(piece)
    yield packer.flush()


def _array(rows: Iterable[bytes]) -> Iterator[bytes]:
    before = b"[\n"
    for row in rows:
        yield before + row
        before = b",\n"
    yield b"\n]\n" if before != b"[\n" else b"[\n\n]\n"
