"""Files to rows of one kind. A bad row is never dropped in silence: each is kept with its line and the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import orjson

from ..core import fingerprints
from ..core.errors import ContentError
from ..core.events import Sink, counted, silent
from ..core.messages import Example, Kind, Row
from . import identity
from .excerpt import excerpt
from .formats import FORMATS, Format, RowError, detect, named, table
from .raw import LIMITS, Limits, RawRow
from .rows import RowStore
from .source import Known, rows


class Reader(Protocol):
    """What gives a file's rows: `source.rows`, or something that leaves some out."""

    def __call__(self, path: Path, *, asked: str | None, known: Known, limits: Limits = ...) -> Iterator[RawRow]:
        """Every row of the file that is to be read."""


METHODS: dict[Kind, str] = {
    "supervised": "sft or distill", "preference": "preference (dpo, simpo, ...) or reward",
    "labelled": "preference (loss: kto)", "prompt": "reinforcement learning, which is not there yet",
    "text": "pretrain",
}  # fmt: skip
"""What learns from a kind of rows."""
_JSON_CELLS = ("messages", "tools", "conversations", "history", "metadata", "preferred_output",
               "non_preferred_output", "label", "kto_tag")  # fmt: skip


TOLD = 1000
"""Bad rows of which the beginning is kept."""


class OtherKindError(ContentError):
    """Rows of a kind that supervised fine-tuning cannot learn from."""


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used."""

    path: str
    line: int
    reason: str
    shown: str = ""
    """The beginning of the row, masked, where it could be read and is among the first TOLD of the file."""

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Loaded:
    """A file as rows, with every row that is not among them as a problem."""

    path: Path
    format: str
    kind: Kind
    records: Sequence[Row]
    """The good rows; all of one kind, for a file has one format."""
    problems: list[Problem]
    sha256: str
    root: str
    """What the set of the good rows is, in whatever order (`identity.root`)."""

    @property
    def rows(self) -> int:
        """All rows of the file, good and bad."""
        return len(self.records) + len(self.problems)

    @property
    def examples(self) -> Sequence[Example]:
        """The rows where they are supervised ones, else none."""
        return cast("Sequence[Example]", self.records) if self.kind == "supervised" else ()

    def require_supervised(self) -> Sequence[Example]:
        """The rows, all supervised; a ContentError that names the kind they are of otherwise."""
        if self.kind != "supervised":
            raise OtherKindError(
                f"{self.path.name} holds rows of kind '{self.kind}' (format '{self.format}')", where=str(self.path),
                why="supervised fine-tuning (sft) learns from answers; these rows are for another method: "
                f"{METHODS[self.kind]}",
                mend="give rows with answers, set method.type, name the format with 'format' if it was detected "
                "wrongly, or name the columns of question and answer with 'columns'",
            )  # fmt: skip
        return self.examples


def load(
    path: Path, *, format: str | None = None, limit: int | None = None, columns: Mapping[str, str] | None = None,
    assistant: str | None = None, limits: Limits = LIMITS, reader: Reader = rows, sink: Sink = silent,
    store: RowStore[Row] | None = None,
) -> Loaded:  # fmt: skip
    """Read a file of rows.

    The first row that a format recognises decides the file's format, unless `format` names one. `columns` gives the
    format's keys by the file's names for them; `assistant` is who answers in a transcript; `reader` gives the file's
    rows, all of them or a sample; `sink` hears how many there were. `store` is where they are put, an empty one.
    Raises MissingError, ContentError for a file that cannot be read at all, UsageError for an unknown format.
    """
    formats, names = table(assistant), dict(columns or {})
    chosen = named(format, formats) if format else None
    records: RowStore[Row] = RowStore() if store is None else store
    problems: list[Problem] = []
    digests = bytearray()
    found = raw_rows(path, format=format, columns=names, limits=limits, reader=reader)
    for raw in counted(found, sink, f"rows of {path.name} read"):
        if limit is not None and len(records) + len(problems) >= limit:
            break
        if len(problems) >= limits.problems:
            problems.append(Problem(path.name, raw.line, f"after {limits.problems} bad rows nothing more is read"))
            break
        try:
            value = _value(raw, names)
            chosen = chosen or detect(value, formats)
            row = _record(value, chosen).model_copy(update={"origin": f"{path.name}:{raw.line}"})
            records.append(row)
            digests += identity.digest(row)
        except RowError as error:
            shown = _beginning(raw.value) if len(problems) < TOLD else ""
            problems.append(Problem(path.name, raw.line, str(error), shown))
    if assistant and chosen and chosen.name != "transcript":
        raise ContentError(
            f"'assistant' is only for transcripts; {path.name} is '{chosen.name}'", where=str(path), mend="leave it out"
        )
    kind: Kind = chosen.kind if chosen else "supervised"
    return Loaded(
        path, chosen.name if chosen else "unknown", kind, records, problems, fingerprints.of_file(path),
        identity.root(identity.joined(digests)),
    )  # fmt: skip


def raw_rows(
    path: Path, *, format: str | None = None, columns: Mapping[str, str] | None = None, limits: Limits = LIMITS,
    reader: Reader = rows,
) -> Iterator[RawRow]:  # fmt: skip
    """The rows that `load` reads, as they stand in the file."""
    back = {column: key for key, column in (columns or {}).items()}

    def known(header: list[str]) -> bool:
        return detect({back.get(name, name): "" for name in header}) is not None

    return reader(path, asked=format, known=known, limits=limits)


def _beginning(value: Any) -> str:
    return "" if value is None else excerpt(json.dumps(value, ensure_ascii=False, default=str))


def _value(raw: RawRow, columns: Mapping[str, str]) -> dict[str, Any]:
    """The row as an object under the keys of its format."""
    if raw.reason:
        raise RowError(raw.reason)
    if not isinstance(raw.value, dict):
        raise RowError(f"a row must be a JSON object, not {type(raw.value).__name__}")
    value = _renamed(raw.value, columns) if columns else raw.value
    return _cells(value) if raw.tabular else value


def _renamed(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    absent = [name for name in columns.values() if name not in row]
    if absent:
        raise RowError(f"there is no column '{absent[0]}'; the row has {_listed(row)}")
    left = {key: value for key, value in row.items() if key not in columns.values()}
    both = [key for key in columns if key in left]
    if both:
        raise RowError(f"'columns' names '{columns[both[0]]}' as '{both[0]}', but there is a '{both[0]}' too")
    return {key: row[name] for key, name in columns.items()} | left


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """A table's row without its empty cells, and with the JSON that stands as text in those that want more."""
    row = {key: value for key, value in row.items() if value is not None}
    for key in (*_JSON_CELLS, *(("input",) if "preferred_output" in row else ())):
        if isinstance(text := row.get(key), str):
            if not text.strip():
                del row[key]
            elif text.lstrip()[0] in "[{" or text.strip().lower() in ("true", "false"):
                row[key] = _json(text.lower() if key in ("label", "kto_tag") else text, key)
    return row


def _json(text: str, key: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RowError(f"the cell '{key}' is not JSON: {error.msg} at column {error.colno}") from None


def _record(value: dict[str, Any], chosen: Format | None) -> Row:
    if chosen is None or not chosen.matches(value):
        raise RowError(_unrecognised(value, chosen))
    return chosen.parse(value)


def _unrecognised(row: dict[str, object], chosen: Format | None) -> str:
    other = detect(row)
    if chosen and other:
        return f"this row is '{other.name}', the file is '{chosen.name}': one format a file"
    wanted = chosen.name if chosen else "one of " + ", ".join(f.name for f in FORMATS)
    return f"not recognised as {wanted}: its keys are {_listed(row)}"


def _listed(row: dict[str, object]) -> str:
    return ", ".join(f"'{key}'" for key in list(row)[:6]) or "none"
