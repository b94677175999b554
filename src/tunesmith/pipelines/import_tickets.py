"""An export of a help desk or CRM system to chat rows. Everything that is left out is counted, with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from ..core import files
from ..core.errors import ConflictError, ContentError, UsageError
from ..core.messages import Message
from ..data.formats.base import RowError
from ..data.formats.conversation import as_json
from ..data.raw import RawRow
from ..data.source import rows
from ..data.tickets import columns, recognise
from ..data.tickets.conversation import Builder, Counts
from ..data.tickets.filters import Filters
from ..data.tickets.mapping import Mapping
from ..data.tickets.recognise import Table, Tables
from ..data.tickets.records import Ticket, comment_of, nested, required, ticket_of
from ..data.tickets.store import Gathered, Store

SUBJECT = "subject"
"""The key of a row that names the customer: `data.subject` of a recipe."""
_SAMPLE = 20
"""Rows by which a file is recognised."""
_SHOWN = 10
"""Unreadable rows, and statuses, that are named."""


@dataclass
class Imported:
    """What was read, kept and left out."""

    path: Path
    files: list[dict[str, Any]] = field(default_factory=list)
    unreadable: int = 0
    """Rows of the files, or comments in them, that could not be read."""
    problems: list[str] = field(default_factory=list)
    """The first of them: place and reason."""
    tickets: int = 0
    kept: int = 0
    comments: int = 0
    turns: Counter[str] = field(default_factory=Counter)
    without_subject: int = 0
    counts: Counts = field(default_factory=Counts)
    other_statuses: Counter[str] = field(default_factory=Counter)
    """Statuses of tickets that were refused, the first that were met."""
    mapping: Mapping | None = None
    with_people: bool = False

    def as_json(self) -> dict[str, Any]:
        """One object, counts by reason with the most frequent first."""
        counts = self.counts
        return {
            "path": str(self.path),
            "rows": self.kept,
            "turns": dict(self.turns),
            "files": self.files,
            "tickets": {"read": self.tickets, "kept": self.kept, "left_out": _by_count(counts.tickets)},
            "comments": {"read": self.comments, "left_out": _by_count(counts.comments)},
            "stripped": _by_count(counts.taken),
            "unreadable": {"rows": self.unreadable, "first": self.problems},
            "notes": self.notes(),
        }

    def notes(self) -> list[str]:
        """What a person should know before they train on the rows."""
        return [text for text, holds in self._remarks() if holds]

    def _remarks(self) -> Iterator[tuple[str, bool]]:
        assumed, mapping = self.counts.assumed, self.mapping
        yield (
            f"{assumed} comments count as an agent's only because their author is not the customer: "
            "give the file of people too, and everyone else is told apart", assumed > 0 and not self.with_people,
        )  # fmt: skip
        roles = ", ".join(f"{role} ({count})" for role, count in self.counts.roles.most_common(8))
        yield f"roles that the mapping does not know: {roles}; name them under agents or customers", bool(roles)
        yield (
            f"{self.without_subject} rows name no customer: they cannot be found again to erase",
            (self.without_subject > 0),
        )
        told = mapping is not None and all(t.public or t.private or t.incoming for t in mapping.comments)
        yield "the mapping names no column of public or private: every comment counts as public", not told

    def bad(self, place: str, reason: str) -> None:
        """Count a row that cannot be read."""
        self.unreadable += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(f"{place}: {reason}")


def import_tickets(
    paths: Sequence[Path], out: Path, *, mapping: Mapping, wanted: Filters, system: str = "", with_title: bool = False
) -> Imported:  # fmt: skip
    """Write the tickets of an export to `out`, one chat row each.

    UsageError, ConflictError where `out` is there, MissingError and ContentError for files that cannot be read, lack
    columns, or hold nothing that can be kept; nothing is written then. OutputError.
    """
    if not out.name.endswith(".jsonl"):
        raise UsageError(f"{out.name} says no way of writing", mend="end it with .jsonl")
    if out.exists():
        raise ConflictError(f"{out} is there already", mend="remove it, or name another with --out")
    if not paths:
        raise UsageError("name at least one file of the export")
    done = Imported(out, mapping=mapping)
    made = out.parent.exists()
    files.make_folder(out.parent)
    try:
        with Store(out) as store:
            _gather(paths, store, mapping, done)
            builder = Builder(mapping, store.person, system, with_title, done.counts)
            with files.replacing(out) as file:
                for line in _lines(store, builder, wanted, done):
                    file.write(line)
                if not done.kept:
                    raise _nothing(done)
    except BaseException:
        if not made and out.parent.is_dir() and not any(out.parent.iterdir()):
            out.parent.rmdir()
        raise
    return done


def _gather(paths: Sequence[Path], store: Store, mapping: Mapping, done: Imported) -> None:
    """Every row of every file into the store."""
    used: list[Table] = []
    seen: set[str] = set()
    for path in paths:
        found = rows(path, asked="tickets", known=lambda names: _known(names, mapping))
        first = list(islice(found, _SAMPLE))
        sample = [raw.value for raw in first if isinstance(raw.value, dict)]
        if not sample:
            reason = next((raw.reason for raw in first if raw.reason), "no row is an object")
            raise ContentError(
                f"{path.name} cannot be read", where=f"{path}:{first[0].line if first else 1}", why=reason
            )
        tables = recognise.recognise(path, sample, mapping)
        used += tables.chosen()
        seen |= recognise.columns_of(sample)
        done.with_people |= tables.people is not None
        count = 0
        for raw in chain(first, found):
            count += 1
            _take(raw, f"{path.name}:{raw.line}", tables, store, mapping, done)
        done.files.append({"path": str(path), "holds": tables.names(), "rows": count})
    recognise.require_all(paths[-1], used, seen, mapping)


def _known(names: list[str], mapping: Mapping) -> bool:
    """Whether a file whose name does not say so is a table, by its first line."""
    row = dict.fromkeys(names)
    keys = [*(t.id for t in mapping.tickets), *(p.id for p in mapping.people), *(c.ticket for c in mapping.comments)]
    return any(columns.has(row, key) for key in keys)


def _take(raw: RawRow, place: str, tables: Tables, store: Store, mapping: Mapping, done: Imported) -> None:
    if raw.reason or not isinstance(raw.value, dict):
        done.bad(place, raw.reason or f"a row must be a JSON object, not {type(raw.value).__name__}")
        return
    try:
        if tables.people:
            person = tables.people
            name = columns.text(raw.value, person.name)
            store.add_person(required(raw.value, person.id, "person's id"), columns.text(raw.value, person.role), name)
        if tables.tickets:
            ticket = ticket_of(raw.value, tables.tickets, mapping.time_format)
            store.add_ticket(ticket)
            if tables.inside:
                for item in nested(raw.value, tables.tickets.comments):
                    _take_comment(item, ticket.id, place, tables, store, mapping, done)
        if tables.comments and not tables.inside:
            id = required(raw.value, tables.comments.ticket, "ticket's id")
            _take_comment(raw.value, id, place, tables, store, mapping, done)
    except RowError as error:
        done.bad(place, str(error))


def _take_comment(
    row: dict[str, Any], ticket: str, place: str, tables: Tables, store: Store, mapping: Mapping, done: Imported
) -> None:
    """A comment into the store. One that cannot be read would leave a hole, so its ticket is marked."""
    if tables.comments is None:
        return
    done.comments += 1
    try:
        store.add_comment(ticket, comment_of(row, tables.comments, mapping.time_format))
    except RowError as error:
        done.bad(place, str(error))
        store.mark_broken(ticket)


def _lines(store: Store, builder: Builder, wanted: Filters, done: Imported) -> Iterator[bytes]:
    """The rows as JSON Lines."""
    with_tickets = any("tickets" in file["holds"] for file in done.files)
    for found in store.tickets():
        done.tickets += 1
        ticket = found.ticket
        opened = ticket.opened if ticket.opened is not None else next((c.time for c in found.comments), None)
        reason = _refusal(found, with_tickets=with_tickets) or wanted.refusal(ticket, opened)
        if reason:
            done.counts.tickets[reason] += 1
            if ticket.status in done.other_statuses or len(done.other_statuses) < _SHOWN:
                done.other_statuses[ticket.status] += 1
            continue
        messages = builder.messages(ticket, found.comments)
        if messages:
            done.kept += 1
            done.turns.update(message.role for message in messages)
            done.without_subject += not ticket.customer
            yield orjson.dumps(_row(ticket, messages)) + b"\n"


def _refusal(found: Gathered, *, with_tickets: bool) -> str:
    """Why a ticket is not read at all; "" where it is."""
    if found.ticket.left_out:
        return "left out by the mapping"
    if found.broken:
        return "a comment of it could not be read"
    if found.too_many:
        return "more comments than are read"
    return "comments of a ticket that no file tells of" if with_tickets and not found.known else ""


def _row(ticket: Ticket, messages: Sequence[Message]) -> dict[str, Any]:
    about = {
        SUBJECT: ticket.customer, "ticket": ticket.id, "status": ticket.status, "satisfaction": ticket.satisfaction,
        "created": ticket.created,
    }  # fmt: skip
    return {"messages": as_json(messages), "metadata": {key: value for key, value in about.items() if value}}


def _nothing(done: Imported) -> ContentError:
    """The error for an export of which no ticket can be kept, with the reasons."""
    why = [f"{reason}: {count}" for reason, count in (done.counts.tickets + done.counts.comments).most_common(6)]
    if "another status" in done.counts.tickets:
        why.append("the statuses are " + ", ".join(f"'{status}'" for status in done.other_statuses))
    why += done.problems[:3]
    return ContentError(
        f"none of {done.tickets} tickets can be kept", where=", ".join(file["path"] for file in done.files),
        why="; ".join(why), mend="ask for less (--status, --min-satisfaction, --since, --until), or correct the mapping"
        + "".join(f"; {note}" for note in done.notes()),
    )  # fmt: skip


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return {reason: count for reason, count in counts.most_common() if count}
