"""Which tables of a mapping a file is, told by its columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...core.errors import ContentError, nearest
from ..formats.base import RowError
from .columns import Row, has
from .mapping import CommentTable, Mapping, PeopleTable, TicketTable
from .records import nested

Table = TicketTable | CommentTable | PeopleTable
T = TypeVar("T", TicketTable, CommentTable, PeopleTable)
_NEEDED = {TicketTable: ("id",), CommentTable: ("ticket",), PeopleTable: ("id", "role")}
_NO_COLUMNS = ("leave_out", "automated", "marks")


@dataclass(frozen=True)
class Tables:
    """What a file is read as. `comments` are inside the tickets where `inside`."""

    tickets: TicketTable | None = None
    comments: CommentTable | None = None
    people: PeopleTable | None = None
    inside: bool = False

    def names(self) -> list[str]:
        """For people: what the file holds."""
        held = {"tickets": self.tickets, "comments": self.comments, "people": self.people}
        return [name for name, table in held.items() if table]

    def chosen(self) -> list[Table]:
        """The tables."""
        return [table for table in (self.tickets, self.comments, self.people) if table]


def recognise(path: Path, sample: Sequence[Row], mapping: Mapping) -> Tables:
    """The tables whose columns the first rows have. ContentError that names the columns where it is none."""
    tickets = _first(mapping.tickets, sample, mapping)
    flat = _first([table for table in mapping.comments if table.ticket], sample, mapping)
    people = _first(mapping.people, sample, mapping)
    if flat:
        if tickets and tickets.id != flat.ticket:
            tickets = None  # a comment has an id too
        return Tables(tickets, flat, people)
    if tickets and tickets.comments and any(has(row, tickets.comments) for row in sample):
        return Tables(tickets, _inside(path, sample, tickets, mapping), people, inside=True)
    if not tickets and not people:
        raise _unknown(path, sample, mapping)
    return Tables(tickets, None, people)


def require_all(path: Path, used: Iterable[Table], columns: set[str], mapping: Mapping) -> None:
    """ContentError where no file has the comments, or, unless the mapping is lenient, a table that it names."""
    found, rows = list(used), [dict.fromkeys(columns)]
    if not any(isinstance(table, CommentTable) for table in found):
        raise ContentError(
            "no file holds comments, and without them there is nothing to learn from", where=str(path),
            why=_lacking(mapping.comments, rows, lenient=mapping.lenient),
            mend="give the file of comments too, joined by the ticket's id, or name its columns in a mapping",
        )  # fmt: skip
    unused = [table for table in _tables(mapping) if table not in found]
    if unused and not mapping.lenient:
        raise ContentError(
            "the mapping names columns that no file has", where=str(path), why=_lacking(unused, rows, lenient=False),
            mend=_listed(columns),
        )  # fmt: skip


def _tables(mapping: Mapping) -> list[Table]:
    return [*mapping.tickets, *mapping.comments, *mapping.people]


def columns_of(sample: Iterable[Row]) -> set[str]:
    """All the names that rows have, those inside objects with a dot."""
    found: set[str] = set()
    for row in sample:
        for key, held in row.items():
            found.add(str(key))
            if isinstance(held, dict):
                found |= {f"{key}.{inner}" for inner in held}
    return found


def _first(tables: Sequence[T], sample: Sequence[Row], mapping: Mapping) -> T | None:
    return next((table for table in tables if not _missing(table, sample, lenient=mapping.lenient)), None)


def _missing(table: Table, sample: Sequence[Row], *, lenient: bool, inside: bool = False) -> list[tuple[str, str]]:
    """(key of the table, columns) for all that no row of the sample has."""
    lacking = [("marks", mark) for mark in table.marks if not inside and not _any_has(sample, (mark,))]
    for key in type(table).model_fields:
        names = getattr(table, key)
        if key in _NO_COLUMNS or not names or (inside and key == "ticket"):
            continue
        if (not lenient or key in _NEEDED[type(table)]) and not _any_has(sample, names):
            lacking.append((key, " or ".join(names)))
    if isinstance(table, CommentTable) and not _any_has(sample, (*table.body, *table.html)):
        lacking.append(("body", " or ".join((*table.body, *table.html)) or "no column named"))
    return list(dict.fromkeys(lacking))


def _any_has(sample: Sequence[Row], names: Sequence[str]) -> bool:
    return any(has(row, names) for row in sample)


def _inside(path: Path, sample: Sequence[Row], tickets: TicketTable, mapping: Mapping) -> CommentTable:
    """The table of the comments inside these tickets; the first where the sample has none."""
    comments: list[Any] = []
    for row in sample:
        try:
            comments += nested(row, tickets.comments)
        except RowError:
            continue
    for table in mapping.comments:
        if not comments or not _missing(table, comments, lenient=mapping.lenient, inside=True):
            return table
    columns = columns_of(comments)
    lacking = _lacking(mapping.comments, comments, lenient=mapping.lenient, inside=True)
    raise ContentError(
        f"the comments inside the tickets of {path.name} are not those of the mapping", where=str(path), why=lacking,
        mend=_listed(columns),
    )  # fmt: skip


def _unknown(path: Path, sample: Sequence[Row], mapping: Mapping) -> ContentError:
    columns = columns_of(sample)
    return ContentError(
        f"{path.name} is none of the mapping's tables", where=str(path),
        why=_lacking(_tables(mapping), sample, lenient=mapping.lenient),
        mend=f"{_listed(columns)}; name the ones that are meant in a file for --mapping",
    )  # fmt: skip


def _lacking(tables: Iterable[Table], rows: Sequence[Row], *, lenient: bool, inside: bool = False) -> str:
    """For each table what it wants and is not there, with the near miss."""
    parts = []
    columns = columns_of(rows)
    for table in tables:
        kind = {TicketTable: "tickets", CommentTable: "comments", PeopleTable: "people"}[type(table)]
        missing = _missing(table, rows, lenient=lenient, inside=inside)
        near = [nearest(names, columns).partition(" (")[0] for _, names in missing]
        close = next((f", {hint}" for hint in near if hint.startswith("did you mean")), "")
        if missing:
            wanted = ", ".join(f"{key}: '{names}'" for key, names in missing[:6])
            parts.append(f"for {kind} there is no {wanted}{close}")
    return "; ".join(parts)


def _listed(columns: set[str]) -> str:
    shown = sorted(columns)
    more = f" and {len(shown) - 40} more" if len(shown) > 40 else ""
    return "the columns are " + (", ".join(f"'{name}'" for name in shown[:40]) + more if shown else "none")
