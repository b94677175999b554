"""Uploaded files: a row each, and their bytes among the blobs. All of it is bound to a project."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, or_, select

from ...core import ids
from ...core.errors import ConflictError, MissingError
from ...governance import audit
from ...governance.keys import Identity
from ...store.blobs import Blob
from ...store.database import Also, Store
from ...store.tables import files, jobs

_READING = "validating_files"
"""The status in which a job reads its files."""
_REMEMBERED = 10_000
"""Deleted files whose place in the list is still known: clients delete what they list, and ask on from there."""


@dataclass(frozen=True)
class Stored:
    """A file. Times are seconds since 1970."""

    number: int
    id: str
    project_id: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None
    status: str
    status_details: str | None
    blob: str
    sha256: str


class NoFileError(MissingError):
    """There is no such file in the project."""


class InUseError(ConflictError):
    """A job reads the file."""

    def __init__(self, id: str, job_id: str):
        super().__init__(f"file {id} is used by job {job_id}")
        self.job_id = job_id


class NoRoomError(ConflictError):
    """The project's files are as large as they may be."""


class Files:
    """The files of a store."""

    def __init__(self, store: Store):
        self._store = store
        self._deleted: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def add(
        self, who: Identity, blob: Blob, *, filename: str, purpose: str, expires_seconds: int | None = None,
        most: int | None = None, also: Also[Stored] | None = None,
    ) -> Stored:  # fmt: skip
        """A file of the caller's project. NoRoomError when all of them hold more than `most` bytes."""
        with self._store.writing() as connection:
            made = self.added(
                connection, who, blob, filename=filename, purpose=purpose, expires_seconds=expires_seconds, most=most
            )
            if also:
                also(connection, made)
            return made

    def added(
        self, connection: Connection, who: Identity, blob: Blob, *, filename: str, purpose: str,
        expires_seconds: int | None = None, most: int | None = None,
    ) -> Stored:  # fmt: skip
        """`add` in a transaction of the caller's."""
        if most is not None:
            held = select(func.coalesce(func.sum(files.c.bytes), 0)).where(files.c.project_id == who.project_id)
            if connection.execute(held).scalar_one() + blob.size > most:
                raise NoRoomError(f"the files of project {who.project_id} may hold {most} bytes")
        id, now = ids.record_id("file-"), self._store.now(connection)
        connection.execute(
            insert(files).values(
                id=id, project_id=who.project_id, key_id=who.key_id, filename=filename, purpose=purpose,
                bytes=blob.size, created_at=now, expires_at=now + expires_seconds if expires_seconds else None,
                status="processed", blob=blob.name, sha256=blob.sha256,
            )
        )  # fmt: skip
        audit.record(
            self._store, connection, actor=f"key:{who.key_id}", project_id=who.project_id, action="file.created",
            target=id, detail={"bytes": blob.size, "sha256": blob.sha256, "purpose": purpose},
        )  # fmt: skip
        return _stored(connection.execute(select(files).where(files.c.id == id)).one())

    def get(self, project_id: str, id: str) -> Stored:
        """A file that has not expired. NoFileError."""
        with self._store.reading() as connection:
            return self.held(connection, project_id, id)

    def held(self, connection: Connection, project_id: str, id: str) -> Stored:
        """`get` in a transaction of the caller's."""
        query = select(files).where(files.c.id == id, files.c.project_id == project_id)
        row = connection.execute(query.where(_lasting(self._store.now(connection)))).first()
        if row is None:
            raise NoFileError(f"there is no file {id}")
        return _stored(row)

    def list(
        self, project_id: str, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> tuple[list[Stored], bool]:
        """Files behind `after`, and whether there are more. None behind a file that never was."""
        mine = files.c.project_id == project_id
        with self._store.reading() as connection:
            query = select(files).where(mine, _lasting(self._store.now(connection)))
            if purpose:
                query = query.where(files.c.purpose == purpose)
            if after is not None:
                place = connection.execute(select(files.c.number).where(mine, files.c.id == after)).scalar()
                place = self._deleted.get(after) if place is None else place
                if place is None:
                    return [], False
                query = query.where(files.c.number < place if newest_first else files.c.number > place)
            query = query.order_by(files.c.number.desc() if newest_first else files.c.number).limit(limit + 1)
            rows = connection.execute(query).all()
        return [_stored(row) for row in rows[:limit]], len(rows) > limit

    def delete(self, who: Identity, id: str) -> Stored:
        """Remove a file, then its bytes. NoFileError; InUseError while a job validates it.

        From then on a job has rows of its own.
        """
        with self._store.writing() as connection:
            found = self.held(connection, who.project_id, id)
            uses = or_(jobs.c.training_file == id, jobs.c.validation_file == id)
            user = connection.execute(select(jobs.c.id).where(uses, jobs.c.status == _READING)).scalar()
            if user is not None:
                raise InUseError(id, user)
            connection.execute(delete(files).where(files.c.id == id))
            audit.record(
                self._store, connection, actor=f"key:{who.key_id}", project_id=who.project_id, action="file.deleted",
                target=id, detail={"sha256": found.sha256},
            )  # fmt: skip
        self._store.blobs.delete(found.blob)
        with self._lock:
            self._deleted[id] = found.number
            if len(self._deleted) > _REMEMBERED:
                self._deleted.popitem(last=False)
        return found

    def read(self, who: Identity, id: str) -> tuple[Stored, BinaryIO]:
        """A file and its bytes, from the beginning; the read is noted in the audit log. NoFileError."""
        found = self.get(who.project_id, id)
        audit.append(
            self._store, actor=f"key:{who.key_id}", project_id=who.project_id, action="file.read", target=id,
            detail={"purpose": found.purpose, "sha256": found.sha256},
        )  # fmt: skip
        try:
            return found, self._store.blobs.open(found.blob)
        except MissingError as error:
            raise NoFileError(f"there is no file {id}") from error

    def expire(self) -> Sequence[str]:
        """Remove the files whose time is over, and that no job reads; their ids."""
        in_use = select(jobs.c.id).where(
            or_(jobs.c.training_file == files.c.id, jobs.c.validation_file == files.c.id),
            jobs.c.status == _READING,
        )
        with self._store.writing() as connection:
            over = and_(files.c.expires_at <= self._store.now(connection), ~in_use.exists())
            gone = connection.execute(select(files).where(over)).all()
            for row in gone:
                connection.execute(delete(files).where(files.c.id == row.id))
                audit.record(
                    self._store, connection, actor="system", project_id=row.project_id, action="file.expired",
                    target=row.id, detail={"sha256": row.sha256},
                )  # fmt: skip
        for row in gone:
            self._store.blobs.delete(row.blob)
        return [row.id for row in gone]


def _lasting(now: float) -> ColumnElement[bool]:
    return or_(files.c.expires_at.is_(None), files.c.expires_at > now)


def _stored(row: Row[Any]) -> Stored:
    return Stored(**{name: getattr(row, name) for name in Stored.__dataclass_fields__})
