"""The audit log: append-only, each entry's hash made over the one before it.

    h_0 = 64 zeros
    h_i = SHA-256(h_{i-1} | entry_i), the entry as canonical JSON (sorted keys, no spaces, UTF-8)

An entry is written in the same transaction as what it tells, so that neither is there without the other. Edits,
deletions, insertions and another order are found by reading the chain from its beginning; entries cut off at its end
are missed by `audit_head`. Who may write the whole database can make a chain anew: keep the head elsewhere
(`tunesmith audit verify` prints it) to notice that too. No secret and no training data is ever part of an entry.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from ..store.database import Store
from ..store.tables import audit, audit_head

_START = "0" * 64
_BATCH = 5000
"""Entries read at a time."""


@dataclass(frozen=True)
class Entry:
    """What someone did. `at` is seconds since 1970."""

    number: int
    at: float
    actor: str
    project_id: str | None
    action: str
    target: str
    detail: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class Verified:
    """What reading the chain found."""

    entries: int
    head: str
    """Hash of the last good entry."""
    bad: int | None = None
    """Number of the first entry that is not as it was written; None where all are."""
    why: str = ""


def record(
    store: Store, connection: Connection, *, actor: str, project_id: str | None, action: str, target: str,
    detail: dict[str, Any],
) -> None:  # fmt: skip
    """Append an entry in the caller's transaction. Call it last: others wait until the transaction ends."""
    store.hold(connection, "audit")
    head = connection.execute(select(audit_head)).first()
    number, before = (head.number + 1, head.hash) if head else (1, _START)
    text = _canonical(detail)
    at = store.now(connection)
    digest = _hash(before, _entry(number, at, actor, project_id, action, target, text))
    connection.execute(
        insert(audit).values(
            number=number, at=at, actor=actor, project_id=project_id, action=action, target=target, detail=text,
            hash=digest,
        )
    )  # fmt: skip
    if head:
        connection.execute(update(audit_head).values(number=number, hash=digest))
    else:
        connection.execute(insert(audit_head).values(id=1, number=number, hash=digest))


def append(
    store: Store, *, actor: str, project_id: str | None, action: str, target: str, detail: dict[str, Any] | None = None
) -> None:
    """An entry in a transaction of its own: for reads, and for what is no record of ours."""
    with store.writing() as connection:
        record(store, connection, actor=actor, project_id=project_id, action=action, target=target, detail=detail or {})


def entries(store: Store, *, project_id: str | None = None, after: int = 0, limit: int = 100) -> list[Entry]:
    """Entries in their order, from number `after` on."""
    query = select(audit).where(audit.c.number > after).order_by(audit.c.number).limit(limit)
    if project_id:
        query = query.where(audit.c.project_id == project_id)
    with store.reading() as connection:
        return [
            Entry(r.number, r.at, r.actor, r.project_id, r.action, r.target, json.loads(r.detail), r.hash)
            for r in connection.execute(query)
        ]


def verify(store: Store) -> Verified:
    """Read the whole chain; the first entry that was edited, inserted, moved, or behind which some are missing."""
    with store.reading() as connection:
        before, number = _START, 0
        for row in _rows(connection):
            if row.number != number + 1:
                return Verified(number, before, number + 1, f"entry {number + 1} is missing")
            text = _entry(row.number, row.at, row.actor, row.project_id, row.action, row.target, row.detail)
            if _hash(before, text) != row.hash:
                return Verified(number, before, row.number, f"entry {row.number} is not what was written")
            before, number = row.hash, row.number
        heads = connection.execute(select(audit_head)).all()
    if len(heads) > 1 or (heads and (heads[0].number, heads[0].hash) != (number, before)) or (number and not heads):
        told = heads[0].number if heads else 0
        return Verified(number, before, number + 1, f"the log ends at entry {number}, and shall end at {told}")
    return Verified(number, before)


def _rows(connection: Connection) -> Iterator[Row[Any]]:
    query, last = select(audit).order_by(audit.c.number).limit(_BATCH), -math.inf
    while found := connection.execute(query.where(audit.c.number > last) if last > -math.inf else query).all():
        yield from found
        last = found[-1].number


def _entry(
    number: int, at: float, actor: str, project_id: str | None, action: str, target: str, detail: str
) -> str:  # fmt: skip
    return _canonical(
        {"number": number, "at": at, "actor": actor, "project": project_id, "action": action, "target": target,
         "detail": detail}
    )  # fmt: skip


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _hash(before: str, text: str) -> str:
    return hashlib.sha256(f"{before}|{text}".encode()).hexdigest()
