"""A file of rows in another format. Nothing is lost in silence: a row that the format cannot hold stops the writing."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import zstandard

from ..core import files
from ..core.errors import ConflictError, ContentError, UsageError
from ..core.messages import Row
from ..data.formats import Format, RowError, exported, named, table
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
    if not out.name.endswith(ENDINGS):
        raise UsageError(f"{out.name} says no way of writing", mend="end it with one of " + ", ".join(ENDINGS))
    if out.exists():
        raise ConflictError(f"{out} is there already", mend="remove it, or name another with --out")
    loaded = load(file, format=format, columns=columns, assistant=assistant)
    _require_whole(loaded)
    rows, refused = [], []
    for row in loaded.records:
        try:
            rows.append(json_line(target, row))
        except RowError as error:
            refused.append(f"{row.origin}: {error}")
    if refused:
        raise _stopped(f"{len(refused)} of {loaded.rows} rows do not fit into '{to}'", refused,
                       "convert to a format that holds them: 'chat' holds all supervised rows")  # fmt: skip
    files.make_folder(out.parent)
    files.write_bytes(out, _packed(rows, out.name))
    return Converted(loaded.format, loaded.kind, to, len(rows), out)


def _require_whole(loaded: Loaded) -> None:
    if loaded.problems:
        reasons = [f"{problem.place}: {problem.reason}" for problem in loaded.problems]
        raise _stopped(f"{len(reasons)} of {loaded.rows} rows of {loaded.path} cannot be read", reasons,
                       f"correct or remove them; tunesmith check {loaded.path} lists them all")  # fmt: skip


def _stopped(what: str, reasons: list[str], mend: str) -> ContentError:
    more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    where = reasons[0].partition(": ")[0]
    return ContentError(what, where=where, why="; ".join([*reasons[:_SHOWN], *more]), mend=mend)


def json_line(target: Format, row: Row) -> bytes:
    """The row as JSON text; a RowError where JSON has no place for a value (a number beyond 64 bits, say)."""
    made: dict[str, Any] = exported(target, row)
    try:
        text = orjson.dumps(made)
    except (TypeError, ValueError) as error:
        raise RowError(f"it cannot be written as JSON: {error}") from None
    if orjson.loads(text) != made:
        raise RowError("it cannot be written as JSON: a number of it is none")
    return text


def _packed(rows: list[bytes], name: str) -> bytes:
    array = ".json" in name and ".jsonl" not in name
    content = b"[\n" + b",\n".join(rows) + b"\n]\n" if array else b"".join(row + b"\n" for row in rows)
    if name.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    return zstandard.compress(content) if name.endswith(".zst") else content
