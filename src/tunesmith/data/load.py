"""Files to examples. A bad row is never dropped in silence: each is kept with its line and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core import fingerprints
from ..core.messages import Example
from .formats import FORMATS, Format, RowError, detect, named
from .source import RawRow, read_file, rows


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used."""

    path: str
    line: int
    reason: str

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Loaded:
    """A file as examples, with every row that is not among them as a problem."""

    path: Path
    format: str
    examples: list[Example]
    problems: list[Problem]
    sha256: str

    @property
    def rows(self) -> int:
        """All rows of the file, good and bad."""
        return len(self.examples) + len(self.problems)


def load(path: Path, *, format: str | None = None, limit: int | None = None) -> Loaded:
    """Read a file of examples.

    The first row that a format recognises decides the file's format, unless `format` names one.
    Raises MissingError, ContentError for a file that cannot be read at all, UsageError for an unknown format.
    """
    content = read_file(path)
    chosen = named(format) if format else None
    examples: list[Example] = []
    problems: list[Problem] = []
    for raw in rows(content):
        if limit is not None and len(examples) + len(problems) >= limit:
            break
        chosen = chosen or detect(raw.value)
        try:
            examples.append(_example(raw, chosen, path.name))
        except RowError as error:
            problems.append(Problem(path.name, raw.line, str(error)))
    name = chosen.name if chosen else "unknown"
    return Loaded(path, name, examples, problems, fingerprints.of_bytes(content))


def _example(raw: RawRow, chosen: Format | None, file: str) -> Example:
    if raw.reason:
        raise RowError(raw.reason)
    if not isinstance(raw.value, dict):
        raise RowError(f"a row must be a JSON object, not {type(raw.value).__name__}")
    if chosen is None or not chosen.matches(raw.value):
        raise RowError(_unrecognised(raw.value, chosen))
    parsed = chosen.parse(raw.value)
    return Example(messages=parsed.messages, tools=parsed.tools, metadata=parsed.metadata, origin=f"{file}:{raw.line}")


def _unrecognised(row: dict[str, object], chosen: Format | None) -> str:
    keys = ", ".join(f"'{key}'" for key in list(row)[:6]) or "none"
    other = detect(row)
    if chosen and other:
        return f"this row is '{other.name}', the file is '{chosen.name}': one format a file"
    wanted = chosen.name if chosen else "one of " + ", ".join(f.name for f in FORMATS)
    return f"not recognised as {wanted}: its keys are {keys}"
