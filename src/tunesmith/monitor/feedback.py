"""What people said of answers: good or bad, and how it should have been. All of it is bound to a project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from ..core import ids
from ..core.errors import ConflictError, ContentError, MissingError
from ..governance import audit
from ..governance.keys import Identity
from ..store.database import Also, Store
from ..store.tables import answers, feedback
from .answers import Answers, Kept


@dataclass(frozen=True)
class Opinion:
    """One person's word on one answer. Times are seconds since 1970."""

    id: str
    project_id: str
    request_id: str
    """Of the kept answer."""
    created_at: float
    good: bool | None
    """None where nobody said."""
    corrected: str | None
    """How the answer should have been."""
    note: str | None


class NoOpinionError(MissingError):
    """There is no such feedback in the project."""


class TooLargeError(ContentError):
    """A conversation that is larger than what is kept."""


class TooManyOpinionsError(ConflictError):
    """The project has as much feedback as may be kept."""


class Feedback:
    """The feedback of a store."""

    def __init__(self, store: Store, kept: Answers):
        self._store, self._kept = store, kept

    def add(
        self, who: Identity, request_id: str, *, good: bool | None, corrected: str | None, note: str | None,
        also: Also[Opinion] | None = None,
    ) -> Opinion:  # fmt: skip
        """A word on a kept answer. NoAnswerError; TooManyOpinionsError."""
        self._kept.get(who.project_id, request_id)
        with self._store.writing() as connection:
            return self._added(connection, who, request_id, good, corrected, note, also)

    def give(
        self, who: Identity, *, model: str, asked: dict[str, Any], answered: dict[str, Any], good: bool | None,
        corrected: str | None, note: str | None, also: Also[Opinion] | None = None,
    ) -> Opinion:  # fmt: skip
        """A word on an answer that was not kept and comes with it. TooLargeError; TooManyOpinionsError."""
        if not self._kept.fits(asked, answered):
            raise TooLargeError(f"a conversation may have at most {self._kept.bounds.bytes} bytes")
        request_id = ids.record_id("given_")
        with self._store.writing() as connection:
            self._kept.insert(connection, who, request_id, kind="given", model=model, asked=asked, answered=answered)
            return self._added(connection, who, request_id, good, corrected, note, also)

    def _added(
        self, connection: Connection, who: Identity, request_id: str, good: bool | None, corrected: str | None,
        note: str | None, also: Also[Opinion] | None,
    ) -> Opinion:  # fmt: skip
        id, mine = ids.record_id("fb_"), feedback.c.project_id == who.project_id
        count = connection.execute(select(func.count()).select_from(feedback).where(mine)).scalar_one()
        if count >= self._kept.bounds.feedback:
            raise TooManyOpinionsError(f"the project has {count} pieces of feedback", mend="delete some")
        connection.execute(
            insert(feedback).values(
                id=id, project_id=who.project_id, key_id=who.key_id, request_id=request_id,
                created_at=self._store.now(connection), good=good, corrected=corrected, note=note,
            )
        )  # fmt: skip
        self._note(connection, f"key:{who.key_id}", who.project_id, "feedback.created", id)
        made = _opinion(connection.execute(select(feedback).where(feedback.c.id == id)).one())
        if also:
            also(connection, made)
        return made

    def page(self, project_id: str, *, after: str | None, limit: int) -> tuple[list[Opinion], bool]:
        """Newest first, behind `after`, and whether there are more; none behind one that is not there."""
        mine = feedback.c.project_id == project_id
        query = select(feedback).where(mine)
        with self._store.reading() as connection:
            if after is not None:
                place = connection.execute(select(feedback.c.number).where(mine, feedback.c.id == after)).scalar()
                if place is None:
                    return [], False
                query = query.where(feedback.c.number < place)
            rows = connection.execute(query.order_by(feedback.c.number.desc()).limit(limit + 1)).all()
        return [_opinion(row) for row in rows[:limit]], len(rows) > limit

    def delete(self, who: Identity, id: str) -> None:
        """Take a word back. A conversation that came with it goes too. NoOpinionError."""
        with self._store.writing() as connection:
            mine = (feedback.c.id == id) & (feedback.c.project_id == who.project_id)
            request_id = connection.execute(select(feedback.c.request_id).where(mine)).scalar()
            if request_id is None:
                raise NoOpinionError(f"there is no feedback '{id}'")
            connection.execute(delete(feedback).where(mine))
            connection.execute(delete(answers).where(answers.c.request_id == request_id, answers.c.kind == "given"))
            self._note(connection, f"key:{who.key_id}", who.project_id, "feedback.deleted", id)

    def told(self, project_id: str, *, since: float | None = None, actor: str) -> Iterator[tuple[Opinion, Kept]]:
        """Every word with its answer, in their order; those since a time. The reading is in the audit log."""
        query = (
            select(feedback.c.number, feedback, answers)
            .join(answers, answers.c.request_id == feedback.c.request_id)
            .where(feedback.c.project_id == project_id, answers.c.project_id == project_id)
            .order_by(feedback.c.number)
        )
        if since is not None:
            query = query.where(feedback.c.created_at >= since)
        with self._store.writing() as connection:
            self._note(connection, actor, project_id, "feedback.read", project_id)
        with self._store.reading() as connection:
            for row in connection.execute(query):
                said = {name: row._mapping[feedback.c[name]] for name in Opinion.__dataclass_fields__}
                kept = {name: row._mapping[answers.c[name]] for name in Kept.__dataclass_fields__}
                yield Opinion(**said), Kept(**kept)

    def _note(self, connection: Connection, actor: str, project_id: str, action: str, target: str) -> None:
        audit.record(
            self._store, connection, actor=actor, project_id=project_id, action=action, target=target, detail={}
        )


def _opinion(row: Row[Any]) -> Opinion:
    return Opinion(**{name: getattr(row, name) for name in Opinion.__dataclass_fields__})
