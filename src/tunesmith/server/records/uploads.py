"""Uploads: files that come in parts, each part whole or not there, made into one file in an order that is named."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from ...core import ids
from ...core.errors import ConflictError, MissingError
from ...governance import audit
from ...governance.keys import Identity
from ...store.blobs import PIECE, Blob
from ...store.database import Also, Store
from ...store.tables import upload_parts, uploads
from .files import Files, Stored

LASTS = 3_600
"""Seconds until an upload that is not completed expires."""


@dataclass(frozen=True)
class Pending:
    """An upload. Times are seconds since 1970."""

    id: str
    project_id: str
    filename: str
    purpose: str
    bytes: int
    mime_type: str
    created_at: float
    expires_at: float
    file_expires_seconds: int | None
    status: str
    file_id: str | None


@dataclass(frozen=True)
class Part:
    """A part of an upload. `created_at` is seconds since 1970."""

    id: str
    created_at: float
    upload_id: str


class NoUploadError(MissingError):
    """There is no such upload in the project."""


class ClosedError(ConflictError):
    """The upload is completed, cancelled or expired."""

    def __init__(self, id: str, status: str):
        super().__init__(f"upload {id} is {status}")
        self.status = status


class WrongPartsError(ConflictError):
    """The parts are not those of the upload, or not what was declared. `param` names the field to blame."""

    def __init__(self, what: str, param: str):
        super().__init__(what)
        self.param = param


class Uploads:
    """The uploads of a store."""

    def __init__(self, store: Store, files: Files):
        self._store, self._files = store, files

    def begin(
        self, who: Identity, *, filename: str, purpose: str, size: int, mime_type: str, file_expires: int | None,
        also: Also[Pending] | None = None,
    ) -> Pending:  # fmt: skip
        """An upload that waits for parts."""
        id = ids.record_id("upload_")
        with self._store.writing() as connection:
            now = self._store.now(connection)
            connection.execute(
                insert(uploads).values(
                    id=id, project_id=who.project_id, key_id=who.key_id, filename=filename, purpose=purpose,
                    bytes=size, mime_type=mime_type, created_at=now, expires_at=now + LASTS,
                    file_expires_seconds=file_expires, status="pending",
                )
            )  # fmt: skip
            self._note(connection, who, "upload.created", id, {"bytes": size, "purpose": purpose})
            made = _pending(connection.execute(select(uploads).where(uploads.c.id == id)).one())
            if also:
                also(connection, made)
            return made

    def get(self, project_id: str, id: str) -> Pending:
        """An upload; one whose time is over is expired, whatever the row still says. NoUploadError."""
        with self._store.reading() as connection:
            return self._held(connection, project_id, id, lock=False)

    def require_open(self, project_id: str, id: str) -> Pending:
        """The upload, to which parts may be added. NoUploadError, ClosedError."""
        found = self.get(project_id, id)
        if found.status != "pending":
            raise ClosedError(id, found.status)
        return found

    def add(self, who: Identity, id: str, blob: Blob, also: Also[Part] | None = None) -> Part:
        """A part. NoUploadError, ClosedError; WrongPartsError beyond the size that was declared."""
        part_id = ids.record_id("part_")
        with self._store.writing() as connection:
            found = self._open(connection, who.project_id, id)
            sizes = connection.execute(select(upload_parts.c.bytes).where(upload_parts.c.upload_id == id)).scalars()
            # Parts may be sent again after a fault, so their sum may exceed what was declared; not without end.
            if sum(sizes) + blob.size > 2 * found.bytes:
                raise WrongPartsError(f"the parts hold more than the {found.bytes} bytes that were declared", "data")
            made = Part(part_id, self._store.now(connection), id)
            connection.execute(
                insert(upload_parts).values(
                    id=part_id, upload_id=id, created_at=made.created_at, bytes=blob.size, blob=blob.name,
                    sha256=blob.sha256,
                )
            )  # fmt: skip
            if also:
                also(connection, made)
        return made

    def complete(
        self, who: Identity, id: str, part_ids: Sequence[str], md5: str | None, most: int | None,
        judge: Callable[[Pending, BinaryIO], None], also: Also[tuple[Pending, Stored]] | None = None,
    ) -> tuple[Pending, Stored]:  # fmt: skip
        """One file of the parts in this order. NoUploadError, ClosedError, WrongPartsError, NoRoomError.

        `judge` raises where the bytes are not what they shall be; the upload stays open then. The bytes are put
        together before the transaction that makes them a file; a second caller who did the same is told there that
        the upload is closed.
        """
        found, parts = self.require_open(who.project_id, id), self._parts(id)
        chosen = _chosen(found, part_ids, parts)
        digest = hashlib.md5(usedforsecurity=False)
        blob = self._store.blobs.put(self._joined(chosen, digest))
        try:
            if md5 is not None and md5 not in (digest.hexdigest(), base64.b64encode(digest.digest()).decode()):
                raise WrongPartsError(f"the MD5 of the parts is {digest.hexdigest()}, not '{md5}'", "md5")
            with self._store.blobs.open(blob.name) as file:
                judge(found, file)
            with self._store.writing() as connection:
                self._open(connection, who.project_id, id)
                made = self._files.added(
                    connection, who, blob, filename=found.filename, purpose=found.purpose,
                    expires_seconds=found.file_expires_seconds, most=most,
                )  # fmt: skip
                parts = self._close(connection, id, "completed", file_id=made.id)
                self._note(connection, who, "upload.completed", id, {"file": made.id})
                done = self._held(connection, who.project_id, id, lock=False)
                if also:
                    also(connection, (done, made))
        except BaseException:
            self._store.blobs.delete(blob.name)
            raise
        self._discard(parts)
        return done, made

    def cancel(self, who: Identity, id: str) -> Pending:
        """Give an upload up, and its parts. NoUploadError, ClosedError."""
        with self._store.writing() as connection:
            self._open(connection, who.project_id, id)
            parts = self._close(connection, id, "cancelled")
            self._note(connection, who, "upload.cancelled", id, {})
            done = self._held(connection, who.project_id, id, lock=False)
        self._discard(parts)
        return done

    def expire(self) -> None:
        """Give up what waits for too long, and its parts."""
        with self._store.writing() as connection:
            over = (uploads.c.status == "pending") & (uploads.c.expires_at <= self._store.now(connection))
            gone = [row.id for row in connection.execute(select(uploads.c.id).where(over))]
            parts = [part for id in gone for part in self._close(connection, id, "expired")]
        self._discard(parts)

    def _held(self, connection: Connection, project_id: str, id: str, *, lock: bool) -> Pending:
        query = select(uploads).where(uploads.c.id == id, uploads.c.project_id == project_id)
        row = connection.execute(query.with_for_update() if lock else query).first()
        if row is None:
            raise NoUploadError(f"there is no upload {id}")
        over = row.status == "pending" and row.expires_at <= self._store.now(connection)
        return _pending(row, status="expired") if over else _pending(row)

    def _open(self, connection: Connection, project_id: str, id: str) -> Pending:
        found = self._held(connection, project_id, id, lock=True)
        if found.status != "pending":
            raise ClosedError(id, found.status)
        return found

    def _close(self, connection: Connection, id: str, status: str, file_id: str | None = None) -> list[Row[Any]]:
        """The parts that are none any more: their bytes go once this is written."""
        connection.execute(update(uploads).where(uploads.c.id == id).values(status=status, file_id=file_id))
        parts = list(connection.execute(_of(id)))
        connection.execute(delete(upload_parts).where(upload_parts.c.upload_id == id))
        return parts

    def _parts(self, id: str) -> list[Row[Any]]:
        with self._store.reading() as connection:
            return list(connection.execute(_of(id)))

    def _joined(self, parts: Sequence[Row[Any]], digest: hashlib._Hash) -> Iterator[bytes]:
        for part in parts:
            with self._store.blobs.open(part.blob) as file:
                while piece := file.read(PIECE):
                    digest.update(piece)
                    yield piece

    def _discard(self, parts: Sequence[Row[Any]]) -> None:
        for part in parts:
            self._store.blobs.delete(part.blob)

    def _note(self, connection: Connection, who: Identity, action: str, id: str, detail: dict[str, object]) -> None:
        audit.record(
            self._store, connection, actor=f"key:{who.key_id}", project_id=who.project_id, action=action, target=id,
            detail=detail,
        )  # fmt: skip


def _of(id: str) -> Select[Any]:
    return select(upload_parts).where(upload_parts.c.upload_id == id)


def _chosen(found: Pending, part_ids: Sequence[str], parts: Sequence[Row[Any]]) -> list[Row[Any]]:
    """The parts that are named, in their order. WrongPartsError for strangers, doubles and a wrong sum."""
    known = {part.id: part for part in parts}
    for part_id in part_ids:
        if part_id not in known:
            raise WrongPartsError(f"there is no part '{part_id}' in upload {found.id}", "part_ids")
    if len(set(part_ids)) != len(part_ids):
        raise WrongPartsError("a part is named twice", "part_ids")
    chosen = [known[part_id] for part_id in part_ids]
    size = sum(part.bytes for part in chosen)
    if size != found.bytes:
        raise WrongPartsError(
            f"the parts hold {size} bytes, but {found.bytes} were declared", "part_ids"
        )  # fmt: skip
    return chosen


def _pending(row: Row[Any], **other: str) -> Pending:
    return Pending(**{name: getattr(row, name) for name in Pending.__dataclass_fields__} | other)
