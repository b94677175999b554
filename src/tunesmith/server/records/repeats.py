"""Answers to requests that may be sent again, for a day.

An answer is kept in the transaction that makes what it tells of (`keep`, `put`). So a server that is killed leaves both
or neither, and one that lost its claim to another makes nothing: what it was to write is taken back with the answer.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ...core.errors import ConflictError
from ...store.database import Store
from ...store.tables import idempotency

KEPT = 86_400.0
"""Seconds that an answer is kept."""
RECALLED = 600.0
"""Seconds in which a retry without a key gets the answer it may have missed."""
_ABANDONED = 180.0
"""Seconds after which a request that has no answer yet was lost with its server."""


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    status: int
    body: str
    media_type: str


@dataclass(frozen=True)
class Claim:
    """Whether this caller is to make the answer; else who does, or what it was."""

    mine: bool
    digest: str
    answer: Answer | None = None
    begun: float = 0.0


class LostClaimError(ConflictError):
    """Another has taken the claim over, or has answered: what was to be made with the answer is not made."""


class Repeats:
    """The answers of a store, by project and key."""

    def __init__(self, store: Store):
        self._store = store

    def claim(self, project_id: str, key: str, route: str, digest: str) -> Claim:
        """Become the one who answers, unless another is or has."""
        mine = (idempotency.c.project_id == project_id) & (idempotency.c.key == key)
        try:
            with self._store.writing() as connection:
                now = self._store.now(connection)
                row = connection.execute(select(idempotency).where(mine)).first()
                if row is not None and row.created_at > now - (KEPT if row.status else _ABANDONED):
                    answer = Answer(row.status, **row.answer) if row.status else None
                    return Claim(False, row.body_sha256, answer)
                if row is not None and not connection.execute(delete(idempotency).where(mine, *_as_seen(row))).rowcount:
                    return Claim(False, row.body_sha256)  # it changed while we waited for its lock
                connection.execute(
                    insert(idempotency).values(
                        project_id=project_id, key=key, route=route, body_sha256=digest, created_at=now
                    )
                )
        except IntegrityError:  # another was quicker, on a database with several writers
            return Claim(False, digest)
        return Claim(True, digest, begun=now)

    def keep(self, connection: Connection, project_id: str, key: str, claim: Claim, answer: Answer) -> None:
        """Keep the answer that the claim was for, in the caller's transaction. LostClaimError."""
        found = update(idempotency).where(*_own(project_id, key, claim))
        if not connection.execute(found.values(status=answer.status, answer=_json(answer))).rowcount:
            raise LostClaimError("another answers this request")

    def finish(self, project_id: str, key: str, claim: Claim, answer: Answer) -> None:
        """`keep` for an answer that tells of nothing that was made; without effect where the claim is lost."""
        with suppress(LostClaimError), self._store.writing() as connection:
            self.keep(connection, project_id, key, claim, answer)

    def release(self, project_id: str, key: str, claim: Claim) -> None:
        """Nothing came of it: who asks again may try."""
        with self._store.writing() as connection:
            connection.execute(delete(idempotency).where(*_own(project_id, key, claim)))

    def put(
        self, connection: Connection, project_id: str, key: str, route: str, digest: str, answer: Answer
    ) -> None:  # fmt: skip
        """Keep an answer that nobody claimed, in the caller's transaction; it takes the place of an older one.

        On a database with several writers IntegrityError where two of one key come at once; those that append to the
        audit log before come one after the other.
        """
        mine = (idempotency.c.project_id == project_id) & (idempotency.c.key == key)
        values = {
            "route": route, "body_sha256": digest, "created_at": self._store.now(connection), "status": answer.status,
            "answer": _json(answer),
        }  # fmt: skip
        if not connection.execute(update(idempotency).where(mine).values(**values)).rowcount:
            connection.execute(insert(idempotency).values(project_id=project_id, key=key, **values))

    def remember(self, project_id: str, key: str, route: str, digest: str, answer: Answer) -> None:
        """`put` for an answer that tells of nothing that was made."""
        with suppress(IntegrityError), self._store.writing() as connection:
            self.put(connection, project_id, key, route, digest, answer)

    def recall(self, project_id: str, key: str) -> Answer | None:
        """An answer that was kept some minutes ago at most."""
        mine = (idempotency.c.project_id == project_id) & (idempotency.c.key == key)
        with self._store.reading() as connection:
            row = connection.execute(select(idempotency).where(mine)).first()
            if row is None or row.status is None or row.created_at < self._store.now(connection) - RECALLED:
                return None
        return Answer(row.status, **row.answer)

    def abandon(self) -> None:
        """Give up what a server that was killed had begun to answer. Where it lives after all, its claim is lost."""
        with self._store.writing() as connection:
            connection.execute(delete(idempotency).where(idempotency.c.status.is_(None)))

    def forget(self) -> None:
        """Remove what is older than a day."""
        with self._store.writing() as connection:
            over = idempotency.c.created_at < self._store.now(connection) - KEPT
            connection.execute(delete(idempotency).where(over))


def _json(answer: Answer) -> dict[str, str]:
    return {"body": answer.body, "media_type": answer.media_type}


def _as_seen(row: Row[Any]) -> tuple[ColumnElement[bool], ...]:
    """A row that is still what it was when it was read."""
    status = idempotency.c.status
    return idempotency.c.created_at == row.created_at, status.is_(None) if row.status is None else status == row.status


def _own(project_id: str, key: str, claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """The row of a claim, and not that of a later one that took its place."""
    return (
        idempotency.c.project_id == project_id, idempotency.c.key == key, idempotency.c.created_at == claim.begun,
        idempotency.c.status.is_(None),
    )  # fmt: skip
