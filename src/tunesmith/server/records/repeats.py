"""Answers to requests that may be sent again, for a day."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

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
                connection.execute(delete(idempotency).where(mine))
                connection.execute(
                    insert(idempotency).values(
                        project_id=project_id, key=key, route=route, body_sha256=digest, created_at=now
                    )
                )
        except IntegrityError:  # another was quicker, on a database with several writers
            return Claim(False, digest)
        return Claim(True, digest, begun=now)

    def finish(self, project_id: str, key: str, claim: Claim, answer: Answer) -> None:
        """Keep the answer that the claim was for."""
        kept = {"body": answer.body, "media_type": answer.media_type}
        with self._store.writing() as connection:
            connection.execute(
                update(idempotency).where(*_own(project_id, key, claim)).values(status=answer.status, answer=kept)
            )

    def release(self, project_id: str, key: str, claim: Claim) -> None:
        """Nothing came of it: who asks again may try."""
        with self._store.writing() as connection:
            connection.execute(delete(idempotency).where(*_own(project_id, key, claim)))

    def remember(self, project_id: str, key: str, route: str, digest: str, answer: Answer) -> None:
        """Keep an answer that nobody claimed; it takes the place of an older one."""
        mine = (idempotency.c.project_id == project_id) & (idempotency.c.key == key)
        kept = {"body": answer.body, "media_type": answer.media_type}
        with self._store.writing() as connection:
            now = self._store.now(connection)
            connection.execute(delete(idempotency).where(mine))
            connection.execute(
                insert(idempotency).values(
                    project_id=project_id, key=key, route=route, body_sha256=digest, created_at=now,
                    status=answer.status, answer=kept,
                )
            )  # fmt: skip

    def recall(self, project_id: str, key: str) -> Answer | None:
        """An answer that was kept some minutes ago at most."""
        mine = (idempotency.c.project_id == project_id) & (idempotency.c.key == key)
        with self._store.reading() as connection:
            row = connection.execute(select(idempotency).where(mine)).first()
            if row is None or row.status is None or row.created_at < self._store.now(connection) - RECALLED:
                return None
        return Answer(row.status, **row.answer)

    def forget(self) -> None:
        """Remove what is older than a day."""
        with self._store.writing() as connection:
            over = idempotency.c.created_at < self._store.now(connection) - KEPT
            connection.execute(delete(idempotency).where(over))


def _own(project_id: str, key: str, claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """The row of a claim, and not that of a later one that took its place."""
    return (
        idempotency.c.project_id == project_id, idempotency.c.key == key, idempotency.c.created_at == claim.begun,
        idempotency.c.status.is_(None),
    )  # fmt: skip
