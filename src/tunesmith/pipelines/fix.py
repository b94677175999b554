"""`check --fix`: a new file without what can be mended safely, and a log of every row that was changed or left out.

Rounds of checking and mending until a check finds nothing more to mend, for a mend may bring forth another trouble: two
rows are the same once their labels are corrected. The last check is therefore one of the file that is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from ..core import files
from ..core.errors import ConflictError, ContentError, UsageError
from ..core.messages import Kind, Row
from ..data.audit import Audit, place_of
from ..data.formats import Format, RowError, named, table
from ..data.kinds import better
from ..data.labels import label_counts, meant_labels
from ..data.load import Loaded, load, raw_rows
from ..data.mend import CHANGING, DROPPING, LostError, mended
from ..data.pii import Known
from ..data.raw import LIMITS
from ..data.rows import Mapped
from .check import Checked, Request, check_files
from .convert import as_json

ROUNDS = 8
WIDEST: Mapping[Kind, str] = {
    "supervised": "chat", "preference": "preference", "labelled": "kto", "prompt": "reinforcement", "text": "text",
}  # fmt: skip
"""The format that holds every row of a kind."""


@dataclass(frozen=True)
class Fixed:
    """What was written, what was done, and what the written file still has."""

    out: Path
    log: Path
    format: str
    rows: int
    changed: int
    dropped: int
    done: dict[str, int]
    """Rows by the finding that was mended."""
    checked: Checked
    """The check of the written file."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        left: Counter[str] = Counter()
        for finding in self.checked.audit.ordered():
            left[finding.code] += finding.count
        return {
            "out": str(self.out), "log": str(self.log), "format": self.format, "rows": self.rows,
            "changed": self.changed, "dropped": self.dropped, "done": self.done, "left": left,
        }  # fmt: skip


@dataclass
class _Plan:
    """What a round does: rows by line that are left out, and why; rows that are changed, and for what."""

    drop: dict[int, str] = field(default_factory=dict)
    change: dict[int, list[str]] = field(default_factory=dict)
    beside: dict[int, str] = field(default_factory=dict)
    """The row that a dropped one repeats, or leaks, as the finding says it."""

    def __bool__(self) -> bool:
        return bool(self.drop or self.change)


@dataclass
class _Work:
    """Rows on their way through the rounds; `places` are the original lines of the current file's rows."""

    name: str
    request: Request
    path: Path
    places: dict[int, int] | None = None
    log: list[dict[str, str]] = field(default_factory=list)
    subjects: dict[str, Known] = field(default_factory=dict)
    """What masking knows of each person."""

    def tell(self, line: int, code: str, done: str) -> None:
        place = self.places[line] if self.places else line
        self.log.append({"row": f"{self.name}:{place}", "code": code, "done": done})


def fix(request: Request, checked: Checked, out: Path) -> Fixed:
    """Mend the one file of `request`, of which `checked` is the check, into `out`; the log lies beside it.

    Raises UsageError, ConflictError where something has the name, ContentError where no row would be left.
    """
    file, log = require_possible(request, out), _log_of(out)
    work = _Work(file.name, request, file)
    temporary: Path | None = None
    files.make_folder(out.parent)
    try:
        for number in range(ROUNDS):
            plan, before = _plan(checked.audit, work.path.name), len(work.log)
            if number and not plan:
                break
            written, format = _round(work, plan, out)
            _forget(temporary)
            work.path = temporary = written
            if number and len(work.log) == before:
                break
            work.request = replace(request, files=[written], format=format, columns={}, assistant=None)
            checked = check_files(work.request)
        checked = replace(checked, audit=_renamed(checked.audit, work.path, out))
        _publish(work, out, log)
    finally:
        _forget(temporary)
    dropped = {entry["row"] for entry in work.log if entry["done"].startswith("dropped")}
    changed = {entry["row"] for entry in work.log} - dropped
    done = Counter(entry["code"] for entry in work.log)
    return Fixed(out, log, format, len(work.places or ()), len(changed), len(dropped), dict(done), checked)


def require_possible(request: Request, out: Path) -> Path:
    """The file to mend; UsageError and ConflictError as `fix` has them, before anything is read."""
    if request.quick:
        raise UsageError("--fix needs all rows, --quick looks at some", mend="take one of them out")
    if len(request.files) != 1:
        raise UsageError("--fix mends one file at a time", mend="name one file")
    file = request.files[0]
    if any(other and other.name == file.name for other in (request.test, request.validation)):
        raise UsageError(
            f"both files are called {file.name}, and findings name rows by file and line", mend="rename or copy one"
        )
    if not out.name.endswith(".jsonl"):
        raise UsageError(f"--fix writes JSON Lines, not {out.name}", mend="end the name with .jsonl")
    for path in (out, _log_of(out)):
        if path.exists():
            raise ConflictError(f"{path} is there already", mend="remove it, or name another with --fix")
    return file


def _log_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.log.jsonl")


def _plan(audit: Audit, name: str) -> _Plan:
    """What the findings about the file `name` ask for. A near row waits where the one that stands for it changes."""
    plan = _Plan()
    told = {code: [p for f in audit.findings if f.code == code for p in f.rows] for code in (*CHANGING, *DROPPING)}
    for code in DROPPING:
        for place in told[code]:
            line, beside = _line(place, name), _beside(place)
            if line is None or (code == "near_duplicates" and _line(beside, name) in {*plan.drop, *plan.change}):
                continue
            plan.drop.setdefault(line, code)
            plan.beside.setdefault(line, beside)
    for code in CHANGING:
        for line in (_line(place, name) for place in told[code]):
            if line is not None and line not in plan.drop:
                plan.change.setdefault(line, []).append(code)
    return plan


def _line(place: str, name: str) -> int | None:
    file, _, line = place_of(place).rpartition(":")
    return int(line) if file == name and line.isdigit() else None


def _beside(place: str) -> str:
    return place[len(place_of(place)) :].strip(" =~")


def _round(work: _Work, plan: _Plan, out: Path) -> tuple[Path, str]:
    """Write what is left of the current file to a temporary one: its path, and its format."""
    request = work.request
    loaded = load(work.path, format=request.format, columns=request.columns, assistant=request.assistant)
    if not loaded.records:
        raise _nothing_left(work)
    if len(loaded.problems) >= LIMITS.problems:
        raise ContentError(f"{work.path} has too many bad rows to mend", mend="look whether its format is right")
    for problem in loaded.problems:
        work.tell(problem.line, "bad_row", f"dropped: {problem.reason}")
    changed, lost = _mended(work, plan, loaded)
    for line, code in sorted(plan.drop.items()):
        beside = f", beside {plan.beside[line]}" if plan.beside[line] and not work.places else ""
        work.tell(line, code, f"dropped{beside}")
    left_out = {*plan.drop, *lost, *(problem.line for problem in loaded.problems)}
    temporary = files.beside(out)
    try:
        format = named(loaded.format, table(request.assistant))
        places = _write(temporary, _lines(work, loaded, changed, left_out, format))
    except RowError:  # this format has no place for a row as it is now
        format = named(WIDEST[loaded.kind])
        places = _write(temporary, _lines(work, loaded, changed, left_out, format))
    places = [work.places[line] if work.places else line for line in places]
    work.places = dict(enumerate(places, start=1))
    if not places:
        _forget(temporary)
        raise _nothing_left(work)
    return temporary, format.name


def _nothing_left(work: _Work) -> ContentError:
    return ContentError(f"no row of {work.name} would be left", mend="tunesmith check says what is wrong with them")


def _write(path: Path, lines: Iterable[tuple[int, bytes]]) -> list[int]:
    """Where each line of the new file stands in the current one."""
    places = []
    with files.replacing(path) as file:
        for line, text in lines:
            file.write(text + b"\n")
            places.append(line)
    return places


def _mended(work: _Work, plan: _Plan, loaded: Loaded) -> tuple[dict[int, Row], set[int]]:
    """(changed rows by line, lines of rows that cannot be restored)."""
    changed: dict[int, Row] = {}
    lost: set[int] = set()
    codes = {code for mine in plan.change.values() for code in mine}
    labels = meant_labels(label_counts(Mapped(loaded.records, better))) if "typo_label" in codes else {}
    for row in loaded.records if plan.change else ():
        line = int(row.origin.rpartition(":")[2])
        if line not in plan.change:
            continue
        try:
            changed[line], done = mended(row, plan.change[line], labels, work.subjects)
        except LostError:
            lost.add(line)
            work.tell(line, "broken_encoding", "dropped: characters were lost when it was decoded")
            continue
        if changed[line] == row:
            del changed[line]
            continue
        for code, what in done.items():
            work.tell(line, code, what)
    return changed, lost


def _lines(
    work: _Work, loaded: Loaded, changed: Mapping[int, Row], left_out: set[int], format: Format
) -> Iterator[tuple[int, bytes]]:
    """(line in the current file, JSON) of every row that stays; one that needs no mend as it stands, where it can."""
    request, records = work.request, iter(loaded.records)
    as_it_stands = format.name == loaded.format and not request.columns and not request.assistant
    problems = {problem.line for problem in loaded.problems}
    for raw in raw_rows(work.path, format=request.format, columns=request.columns):
        if raw.line in problems:
            continue
        row = next(records)
        if raw.line in left_out:
            continue
        if raw.line not in changed and as_it_stands and not raw.tabular:
            yield raw.line, orjson.dumps(raw.value)
        else:
            yield raw.line, as_json(format, changed.get(raw.line, row))


def _publish(work: _Work, out: Path, log: Path) -> None:
    """Give the last round's file its name; the log stands first, so that no file is ever without it."""
    entries: Sequence[dict[str, str]] = sorted(work.log, key=lambda entry: int(entry["row"].rpartition(":")[2]))
    with files.replacing(log) as file:
        for entry in entries:
            file.write(orjson.dumps(entry) + b"\n")
    with files.writing(out):
        work.path.replace(out)
        files.sync_folder(out.parent)


def _renamed(audit: Audit, old: Path, new: Path) -> Audit:
    """The audit of a file under its final name."""

    def place(text: str) -> str:
        return text.replace(f"{old.name}:", f"{new.name}:")

    found = [replace(f, rows=tuple(map(place, f.rows)), example=place(f.example)) for f in audit.findings]
    told = [replace(f, path=str(new)) if f.path == str(old) else f for f in audit.files]
    return replace(audit, files=told, findings=found)


def _forget(path: Path | None) -> None:
    if path:
        files.discard(path)
