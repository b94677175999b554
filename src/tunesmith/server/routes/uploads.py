"""Uploads: large files in parts."""

from __future__ import annotations

from typing import BinaryIO

from fastapi import Request
from starlette.responses import Response

from ...governance.keys import Identity
from ...store.blobs import Blob
from ..access import Caller, Serving
from ..errors import ApiError, invalid
from ..idempotency import Repeated, Seal, Sealing, form_once
from ..multipart import Form, twice
from ..openapi import form
from ..protocol.common import Id
from ..protocol.files import CompleteRequest, File, Upload, UploadPart, UploadRequest
from ..records.files import NoRoomError
from ..records.uploads import ClosedError, NoUploadError, Part, Pending, WrongPartsError
from ..routing import Routes
from ..services import Services
from . import files

routes = Routes(prefix="/v1", tags=["uploads"])

_FORM = form({"data": {"type": "string", "format": "binary"}}, "data")


@routes.post("/uploads", scope="train")
def create(body: UploadRequest, who: Caller, services: Serving, seal: Sealing) -> Upload:
    """Begin an upload; it lasts an hour."""
    limits = services.settings.limits
    if body.bytes > min(limits.upload_bytes, limits.file_bytes):
        most = min(limits.upload_bytes, limits.file_bytes)
        raise invalid(f"Invalid 'bytes': a file may have {most} bytes.", "bytes", "integer_above_max_value")
    made = services.uploads.begin(
        who, filename=body.filename, purpose=body.purpose, size=body.bytes, mime_type=body.mime_type,
        file_expires=body.expires_after.seconds if body.expires_after else None,
        also=lambda connection, pending: seal(connection, wire(pending, None)),
    )  # fmt: skip
    return wire(made, None)


@routes.post(
    "/uploads/{upload_id}/parts", scope="train", errors=(404,), openapi_extra=_FORM, response_model=UploadPart
)  # fmt: skip
def add_part(upload_id: Id, request: Request, who: Caller, services: Serving) -> Response:
    """Add a part. Parts may come in any order and at the same time; one that is cut short is not there."""
    try:
        services.uploads.require_open(who.project_id, upload_id)
        with services.receiving():
            blob = _received(request, services)
        try:
            return form_once(request, blob.sha256, lambda seal: _added(services, who, upload_id, blob, seal))
        except BaseException as error:
            services.store.blobs.delete(blob.name)
            if isinstance(error, Repeated):
                return error.answer
            raise
    except NoUploadError as error:
        raise _no_such_upload(upload_id) from error
    except ClosedError as error:
        raise _closed(upload_id, error) from error
    except WrongPartsError as error:
        raise _wrong(error) from error


@routes.post("/uploads/{upload_id}/complete", scope="train", errors=(404,))
def complete(upload_id: Id, body: CompleteRequest, who: Caller, services: Serving, seal: Sealing) -> Upload:
    """Make the parts one file, in the order given. Their sizes must add up to what was declared."""
    most = services.settings.limits.project_bytes
    try:
        done, made = services.uploads.complete(
            who, upload_id, body.part_ids, body.md5, most, _judge,
            lambda connection, both: seal(connection, wire(both[0], files.wire(both[1], services))),
        )  # fmt: skip
    except NoUploadError as error:
        raise _no_such_upload(upload_id) from error
    except ClosedError as error:
        raise _closed(upload_id, error) from error
    except WrongPartsError as error:
        raise _wrong(error) from error
    except NoRoomError as error:
        raise files.no_room(most) from error
    return wire(done, files.wire(made, services))


@routes.post("/uploads/{upload_id}/cancel", scope="train", errors=(404,))
def cancel(upload_id: Id, who: Caller, services: Serving) -> Upload:
    """Give an upload up; its parts are removed."""
    try:
        return wire(services.uploads.cancel(who, upload_id), None)
    except NoUploadError as error:
        raise _no_such_upload(upload_id) from error
    except ClosedError as error:
        raise _closed(upload_id, error) from error


def wire(upload: Pending, file: File | None) -> Upload:
    """An upload as clients read it."""
    return Upload(
        id=upload.id, bytes=upload.bytes, created_at=int(upload.created_at), filename=upload.filename,
        purpose=upload.purpose, status=upload.status, expires_at=int(upload.expires_at), file=file,
    )  # fmt: skip


def _added(services: Services, who: Identity, upload_id: str, blob: Blob, seal: Seal) -> UploadPart:
    return _part(services.uploads.add(who, upload_id, blob, lambda connection, made: seal(connection, _part(made))))


def _part(part: Part) -> UploadPart:
    return UploadPart(id=part.id, created_at=int(part.created_at), upload_id=part.upload_id)


def _received(request: Request, services: Services) -> Blob:
    """The bytes of a part, once the whole form has come."""
    blob: Blob | None = None
    try:
        for part in Form(files.pieces_of(request), request.headers.get("content-type")):
            if part.name != "data":
                raise invalid(f"Unknown parameter: '{part.name}'.", part.name, "unknown_parameter")
            if blob:
                raise twice("data")
            blob = files.put(services, part, services.settings.limits.part_bytes)
        if blob is None:
            raise invalid("Missing required parameter: 'data'.", "data", "missing_required_parameter")
        if blob.size == 0:
            raise invalid("A part must not be empty.", "data", "invalid_value")
    except BaseException:
        if blob:
            services.store.blobs.delete(blob.name)
        raise
    return blob


def _judge(upload: Pending, file: BinaryIO) -> None:
    """ApiError 400 where a purpose asks for JSON Lines and these are none."""
    if upload.purpose in files.JSONL_PURPOSES:
        files.require_jsonl(file)


def _no_such_upload(id: str) -> ApiError:
    return ApiError(404, f"No such Upload object: {id}", param="id")


def _closed(id: str, error: ClosedError) -> ApiError:
    return invalid(f"Upload {id} is {error.status} and cannot be changed.", "upload_id", "upload_closed")


def _wrong(error: WrongPartsError) -> ApiError:
    return invalid(f"{error.what[0].upper()}{error.what[1:]}.", error.param, "invalid_parts")
