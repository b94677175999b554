"""Tickets with their comments, gathered from files in any order on disk, not in memory: a temporary SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from ...core import files
from ...core.errors import OutputError
from .records import Comment, Ticket

MOST_COMMENTS = 5000
"""Comments of one ticket that are kept in memory together; Zendesk, for one, allows no more on a ticket."""

MOST_BYTES = 64 << 20
"""Bytes of a ticket's comments that are kept in memory together."""

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE tickets (seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, facts BLOB, broken INTEGER NOT NULL DEFAULT 0);
CREATE TABLE comments (seq INTEGER PRIMARY KEY, ticket INTEGER NOT NULL, time REAL, rank REAL, facts BLOB NOT NULL);
CREATE TABLE people (id TEXT PRIMARY KEY, role TEXT NOT NULL, name TEXT NOT NULL) WITHOUT ROWID;
"""
_ALL = """
SELECT t.seq, t.id, t.facts, t.broken, c.facts FROM tickets t LEFT JOIN comments c ON c.ticket = t.seq
ORDER BY t.seq, c.time, c.rank, c.seq
"""
_TICKET = [field.name for field in fields(Ticket)]
_COMMENT = [field.name for field in fields(Comment)]


class Gathered:
    """One ticket with its comments in order."""

    def __init__(self, ticket: Ticket, comments: list[Comment], *, known: bool, broken: bool, too_many: bool):
        self.ticket, self.comments = ticket, comments
        self.known, self.broken, self.too_many = known, broken, too_many
        """Whether a row told of the ticket; whether a comment could not be read; whether it has more than are read."""


class Store:
    """A context manager; the file beside `out` is gone when it ends. Its errors are OutputErrors that name `out`."""

    def __init__(self, out: Path):
        self._out, self._path = out, files.beside(out)
        self._last: tuple[str, int] = ("", 0)
        self._facts: tuple[str, dict[str, Any]] = ("", {})

    def __enter__(self) -> Store:
        try:
            with self._told():
                self._path.touch(mode=0o600)  # it holds what customers wrote
                self._base = sqlite3.connect(self._path, isolation_level=None)
                self._base.executescript(_SCHEMA)
                self._base.execute("BEGIN")
        except BaseException:
            files.discard(self._path)
            raise
        self.person = lru_cache(maxsize=10_000)(self._person)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()
        files.discard(self._path)

    def add_ticket(self, ticket: Ticket) -> None:
        """What is filled here counts before what an earlier row of the same ticket said."""
        facts = {name: value for name in _TICKET if (value := getattr(ticket, name)) not in ("", None, (), False)}
        if self._facts == (ticket.id, facts):
            return
        with self._told():
            seq = self._seq(ticket.id)
            [earlier] = self._base.execute("SELECT facts FROM tickets WHERE seq = ?", (seq,)).fetchone()
            merged = orjson.loads(earlier) | facts if earlier else facts
            self._base.execute("UPDATE tickets SET facts = ? WHERE seq = ?", (orjson.dumps(merged), seq))
        self._facts = (ticket.id, facts)

    def add_comment(self, ticket: str, comment: Comment) -> None:
        """A comment of the ticket with this id, which may be met later."""
        facts = orjson.dumps([getattr(comment, name) for name in _COMMENT])
        with self._told():
            self._base.execute(
                "INSERT INTO comments (ticket, time, rank, facts) VALUES (?, ?, ?, ?)",
                (self._seq(ticket), comment.time, comment.order, facts),
            )

    def add_person(self, id: str, role: str, name: str) -> None:
        """Who a person is."""
        with self._told():
            self._base.execute("INSERT OR REPLACE INTO people VALUES (?, ?, ?)", (id, role, name))

    def mark_broken(self, ticket: str) -> None:
        """A comment of this ticket could not be read."""
        with self._told():
            self._base.execute("UPDATE tickets SET broken = 1 WHERE seq = ?", (self._seq(ticket),))

    def tickets(self) -> Iterator[Gathered]:
        """Each ticket in the order in which it was first met."""
        with self._told():
            self._base.execute("CREATE INDEX by_ticket ON comments (ticket, time, rank, seq)")
            for (_, id, facts, broken), rows in groupby(self._base.execute(_ALL), key=lambda row: row[:4]):
                yield self._gathered(id, facts, broken, rows)

    def _gathered(self, id: str, facts: bytes | None, broken: int, rows: Iterator[Any]) -> Gathered:
        comments: list[Comment] = []
        count = size = 0
        for row in rows:
            if row[4] is not None:
                count, size = count + 1, size + len(row[4])
                if count <= MOST_COMMENTS and size <= MOST_BYTES:
                    comments.append(Comment(*orjson.loads(row[4])))
        told = orjson.loads(facts) if facts else {}
        ticket = Ticket(**{"id": id} | told | {"copied": tuple(told.get("copied", ()))})
        return Gathered(
            ticket, comments, known=facts is not None, broken=bool(broken), too_many=count > len(comments)
        )  # fmt: skip

    def _person(self, id: str) -> tuple[str, str]:
        """(role, name), "" where they are not known."""
        with self._told():
            found = self._base.execute("SELECT role, name FROM people WHERE id = ?", (id,)).fetchone()
        return found or ("", "")

    def _seq(self, ticket: str) -> int:
        if self._last[0] != ticket:
            self._base.execute("INSERT OR IGNORE INTO tickets (id) VALUES (?)", (ticket,))
            [seq] = self._base.execute("SELECT seq FROM tickets WHERE id = ?", (ticket,)).fetchone()
            self._last = (ticket, seq)
        return self._last[1]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of SQLite and of the disk as an OutputError."""
        try:
            with files.writing(self._out):
                yield
        except sqlite3.Error as error:
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL if hasattr(error, "sqlite_errorcode") else False
            raise OutputError(
                f"cannot write {self._out}", why=files.FULL[0] if full else f"the temporary file beside it: {error}",
                mend="free some space, then run the same command again",
            ) from error  # fmt: skip
