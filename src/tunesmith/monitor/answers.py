"""Answers that are kept with what was asked: those that a caller wants stored, and no others unless told.

All of it is bounded: by age, by number for each project, and by size for each answer. What somebody gave feedback on
stays as long as the feedback does. Every query names its project.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, or_, select

from ..core.errors import MissingError
from ..governance import audit
from ..governance.keys import Identity
from ..store.database import Store
from ..store.tables import answers, feedback

Kind = Literal["chat", "completion", "response", "given"]
"""Which call it was; `given` came with the feedback itself."""

_ID = re.compile(r"(?:req_|chatcmpl-|cmpl-|resp_)([0-9a-f]{32})")
_TIDIED_EVERY = 50
"""Answers: how far the number of kept ones may pass its bound."""
_LONGEST_CHAIN = 1_000
"""Responses that one may stand on; each of them is in the prompt."""


@dataclass(frozen=True)
class Bounds:
    """How much is kept."""

    days: float = 30
    answers: int = 10_000
    """Of one project, those with feedback not counted."""
    bytes: int = 2**20
    """Of one answer and what was asked, as JSON; a larger one is not kept."""
    feedback: int = 100_000
    """Of one project."""


@dataclass(frozen=True)
class Kept:
    """A kept answer. Times are seconds since 1970.

    `asked` has `messages` (those of this turn) and `tools`, or a `prompt`; `answered` has a `message`, or a `text`. A
    response has its own `instructions` too. Either may hold more, which is its face's own.
    """

    request_id: str
    project_id: str
    kind: Kind
    model: str
    created_at: float
    asked: dict[str, Any]
    answered: dict[str, Any]
    previous: str | None


class NoAnswerError(MissingError):
    """No such answer is kept, or not for this project."""


def request_of(id: str, index: int = 0) -> str | None:
    """The id that an answer is kept under, from any id that its request has: the header's, or that of the answer's own
    object. None for a text that is no such id."""
    match = _ID.fullmatch(id)
    if match is None:
        return None
    return f"req_{match[1]}" if index == 0 else f"req_{match[1]}#{index}"


class Answers:
    """The kept answers of a store."""

    def __init__(self, store: Store, bounds: Bounds | None = None):
        self._store, self.bounds = store, bounds or Bounds()
        self._count = itertools.count()

    def keep(
        self, who: Identity, request_id: str, *, kind: Kind, model: str, asked: dict[str, Any],
        answered: dict[str, Any], previous: str | None = None,
    ) -> bool:  # fmt: skip
        """Keep an answer; false where it is too large to be kept."""
        if not self.fits(asked, answered):
            return False
        with self._store.writing() as connection:
            self.insert(
                connection, who, request_id, kind=kind, model=model, asked=asked, answered=answered, previous=previous
            )
        if next(self._count) % _TIDIED_EVERY == 0:
            self.tidy(who.project_id)
        return True

    def fits(self, asked: dict[str, Any], answered: dict[str, Any]) -> bool:
        """Whether an answer is small enough to be kept."""
        return len(json.dumps([asked, answered])) <= self.bounds.bytes

    def insert(
        self, connection: Connection, who: Identity, request_id: str, *, kind: Kind, model: str,
        asked: dict[str, Any], answered: dict[str, Any], previous: str | None = None,
    ) -> None:  # fmt: skip
        """`keep` in a transaction of the caller's, for one that fits."""
        connection.execute(
            insert(answers).values(
                request_id=request_id, project_id=who.project_id, key_id=who.key_id, kind=kind, model=model,
                created_at=self._store.now(connection), asked=asked, answered=answered, previous=previous,
            )
        )  # fmt: skip

    def get(self, project_id: str, request_id: str, *, kind: Kind | None = None) -> Kept:
        """A kept answer. NoAnswerError."""
        with self._store.reading() as connection:
            row = connection.execute(select(answers).where(_is(project_id, request_id, kind))).first()
        if row is None:
            raise NoAnswerError(f"no answer is kept under {request_id}")
        return Kept(**{name: getattr(row, name) for name in Kept.__dataclass_fields__})

    def chain(self, project_id: str, request_id: str) -> list[Kept]:
        """A response and those it stands on, oldest first. NoAnswerError where one of them is gone."""
        found: list[Kept] = []
        wanted: str | None = request_id
        while wanted is not None:
            if len(found) == _LONGEST_CHAIN:
                raise NoAnswerError(f"more than {_LONGEST_CHAIN} responses stand on one another")
            found.append(self.get(project_id, wanted, kind="response"))
            wanted = found[-1].previous
        return found[::-1]

    def delete(self, who: Identity, request_id: str, *, kind: Kind) -> None:
        """Remove what is kept of a request, all its answers, and what was said of them. NoAnswerError."""
        with self._store.writing() as connection:
            others = answers.c.request_id.startswith(f"{request_id}#", autoescape=True)
            found = select(answers.c.request_id).where(
                answers.c.project_id == who.project_id, answers.c.kind == kind,
                or_(answers.c.request_id == request_id, others),
            )  # fmt: skip
            gone = list(connection.execute(found).scalars())
            if not gone:
                raise NoAnswerError(f"no answer is kept under {request_id}")
            connection.execute(delete(feedback).where(feedback.c.request_id.in_(gone)))
            connection.execute(delete(answers).where(answers.c.request_id.in_(gone)))
            audit.record(
                self._store, connection, actor=f"key:{who.key_id}", project_id=who.project_id, action="answer.deleted",
                target=request_id, detail={},
            )  # fmt: skip

    def tidy(self, project_id: str | None = None) -> None:
        """Remove what is older, or more, than is kept; of a project, or of all."""
        with self._store.writing() as connection:
            if project_id is None:
                oldest = self._store.now(connection) - self.bounds.days * 86_400
                connection.execute(delete(answers).where(~_rated(), answers.c.created_at < oldest))
                return
            mine = (answers.c.project_id == project_id) & ~_rated()
            oldest = self._store.now(connection) - self.bounds.days * 86_400
            connection.execute(delete(answers).where(mine, answers.c.created_at < oldest))
            count = connection.execute(select(func.count()).select_from(answers).where(mine)).scalar_one()
            if count > self.bounds.answers:
                many = select(answers.c.request_id).where(mine).order_by(answers.c.created_at)
                surplus = many.limit(count - self.bounds.answers)
                connection.execute(delete(answers).where(answers.c.request_id.in_(surplus)))


def _is(project_id: str, request_id: str, kind: Kind | None) -> ColumnElement[bool]:
    found: ColumnElement[bool] = (answers.c.project_id == project_id) & (answers.c.request_id == request_id)
    return found if kind is None else found & (answers.c.kind == kind)


def _rated() -> ColumnElement[bool]:
    return exists().where(feedback.c.request_id == answers.c.request_id)
