"""Files: the training data that goes in, the results that come out."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO, get_args

import anyio.from_thread
import orjson
from fastapi import Query, Request
from starlette.responses import Response, StreamingResponse

from ...governance.keys import Identity
from ...store.blobs import PIECE, Blob, TooLargeError
from ..access import Caller, Serving
from ..body import too_large
from ..errors import ApiError, invalid, no_such_file
from ..idempotency import Repeated, Seal, form_once
from ..multipart import Form, Part, twice
from ..openapi import form
from ..protocol.common import PAGE, After, Deleted, EndedPage, Id, Order, ended
from ..protocol.files import LONGEST, SHORTEST, File, Purpose
from ..records.files import InUseError, NoFileError, NoRoomError, Stored
from ..routing import Routes
from ..services import Services

routes = Routes(prefix="/v1", tags=["files"])

NOT_JSONL = "Expected file to have JSONL format, where every line is a valid JSON dictionary."
JSONL_PURPOSES = ("fine-tune", "batch")
RESULTS = "fine-tune-results"
_LONGEST_LINE = 32 * 2**20
_FORM = form(
    {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(get_args(Purpose))},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": SHORTEST, "maximum": LONGEST},
    },
    "file", "purpose",
)  # fmt: skip


@routes.post("/files", scope="train", openapi_extra=_FORM, response_model=File)
def create(request: Request, who: Caller, services: Serving) -> Response:
    """Store a file. One for fine-tuning must be JSON Lines; what its rows hold is judged when a job takes it."""
    with services.receiving():
        got = _received(request, services)
    try:
        return form_once(request, got.told(), lambda seal: wire(_add(services, who, got, seal), services))
    except BaseException as error:
        if got.blob:
            services.store.blobs.delete(got.blob.name)
        if isinstance(error, Repeated):
            return error.answer
        raise


@routes.get("/files", scope="read")
def list_files(
    who: Caller, services: Serving, purpose: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE, order: Order = "desc", after: After = None,
) -> EndedPage[File]:  # fmt: skip
    """The project's files."""
    found, more = services.files.list(
        who.project_id, purpose=purpose, after=after, limit=limit, newest_first=order == "desc"
    )
    return ended([wire(file, services) for file in found], [file.id for file in found], more)


@routes.get("/files/{file_id}", scope="read", errors=(404,))
def retrieve(file_id: Id, who: Caller, services: Serving) -> File:
    """A file, without its bytes."""
    try:
        return wire(services.files.get(who.project_id, file_id), services)
    except NoFileError as error:
        raise no_such_file(file_id) from error


@routes.delete("/files/{file_id}", scope="train", errors=(404, 409))
def delete(file_id: Id, who: Caller, services: Serving) -> Deleted:
    """Remove a file and its bytes; 409 while a job validates it."""
    try:
        services.files.delete(who, file_id)
    except NoFileError as error:
        raise no_such_file(file_id) from error
    except InUseError as error:
        raise ApiError(
            409, f"File {file_id} is just being validated for fine-tuning job {error.job_id}. Try again in a moment.",
            param="file_id", code="file_in_use", headers={"retry-after": "1"},
        ) from error  # fmt: skip
    return Deleted(id=file_id, object="file")


@routes.get(
    "/files/{file_id}/content", scope="read", errors=(404,), response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)  # fmt: skip
def content(file_id: Id, who: Caller, services: Serving) -> Response:
    """A file's bytes."""
    try:
        found, file = services.files.read(who, file_id)
    except NoFileError as error:
        raise no_such_file(file_id) from error
    length = {"content-length": str(_sent_bytes(found, services))}
    sent = _encoded(file) if _is_encoded(found, services) else pieces(file)
    return StreamingResponse(sent, media_type="application/octet-stream", headers=length)


def wire(file: Stored, services: Services) -> File:
    """A file as clients read it."""
    expires = None if file.expires_at is None else int(file.expires_at)
    return File(
        id=file.id, bytes=_sent_bytes(file, services), created_at=int(file.created_at), filename=file.filename,
        purpose=file.purpose,
        status=file.status, expires_at=expires, status_details=file.status_details,
    )  # fmt: skip


def pieces_of(request: Request) -> Iterator[bytes]:
    """A body piece by piece, for a route that runs in a thread of its own. ClientDisconnect; ApiError 408, 413."""
    stream = request.stream()

    async def pull() -> bytes | None:
        return await anext(stream, None)

    while (piece := anyio.from_thread.run(pull)) is not None:
        if piece:
            yield piece


def put(services: Services, part: Part, limit: int) -> Blob:
    """A part's bytes among the blobs. ApiError 413."""
    try:
        return services.store.blobs.put(part.content, limit=limit)
    except TooLargeError as error:
        raise too_large(limit) from error


def require_jsonl(file: BinaryIO) -> None:
    """ApiError 400 unless each line is a JSON object, and there is one."""
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise invalid(f"{NOT_JSONL} Line {number} is longer than {_LONGEST_LINE} bytes.")
        if not line.strip():
            continue
        try:
            row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        except orjson.JSONDecodeError as error:
            hint = line[:40].decode("utf-8", "replace").strip()
            raise invalid(
                f'{NOT_JSONL} Line {number} is not valid JSON (HINT: line starts with: "{hint}...").'
            ) from error
        if not isinstance(row, dict):
            hint = line[:40].decode("utf-8", "replace").strip()
            raise invalid(f'{NOT_JSONL} Line {number} is not a dictionary (HINT: line starts with: "{hint}...").')
    if number == 0:
        raise invalid(f"{NOT_JSONL} The file is empty.")


@dataclass
class _Got:
    """What a form held."""

    fields: dict[str, str]
    filename: str = ""
    blob: Blob | None = None

    def told(self) -> str:
        """What it holds, to be told from another form."""
        return orjson.dumps([self.fields, self.filename, self.blob and self.blob.sha256]).decode()


def _received(request: Request, services: Services) -> _Got:
    """Read the form to its end; the file is stored by then, and removed where the form turns out wrong."""
    got = _Got({})
    try:
        for part in Form(pieces_of(request), request.headers.get("content-type")):
            if part.name in got.fields or (part.name == "file" and got.blob):
                raise twice(part.name)
            if part.name == "file":
                if part.filename is None:
                    raise invalid("'file' must be sent as a file.", "file", "invalid_type")
                got.filename = part.filename or "upload"
                got.blob = put(services, part, services.settings.limits.file_bytes)
            else:
                got.fields[part.name] = part.text()
    except BaseException:
        if got.blob:
            services.store.blobs.delete(got.blob.name)
        raise
    return got


def _add(services: Services, who: Identity, got: _Got, seal: Seal) -> Stored:
    fields = dict(got.fields)
    purpose = fields.pop("purpose", None)
    anchor, seconds = fields.pop("expires_after[anchor]", None), fields.pop("expires_after[seconds]", None)
    if fields:
        name = next(iter(fields))
        raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    if got.blob is None:
        raise invalid("Missing required parameter: 'file'.", "file", "missing_required_parameter")
    if purpose is None:
        raise invalid("Missing required parameter: 'purpose'.", "purpose", "missing_required_parameter")
    if purpose not in get_args(Purpose):
        raise invalid(
            f"'{purpose[:80]}' is not one of {list(get_args(Purpose))} - 'purpose'", "purpose", "invalid_value"
        )
    if purpose in JSONL_PURPOSES:
        with services.store.blobs.open(got.blob.name) as file:
            require_jsonl(file)
    expires, most = _expiry(anchor, seconds), services.settings.limits.project_bytes
    try:
        return services.files.add(
            who, got.blob, filename=got.filename[:1_024], purpose=purpose, expires_seconds=expires, most=most,
            also=lambda connection, made: seal(connection, wire(made, services)),
        )  # fmt: skip
    except NoRoomError as error:
        raise no_room(most) from error


def no_room(most: int) -> ApiError:
    """400: the project's files are as large as they may be."""
    return invalid(f"The files of this project may hold {most} bytes together.", "file", "storage_quota_exceeded")


def _expiry(anchor: str | None, seconds: str | None) -> int | None:
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise invalid("expires_after[anchor] must be 'created_at'.", "expires_after.anchor", "invalid_value")
    if (
        seconds is None
        or len(seconds) > 9
        or not seconds.isascii()
        or not seconds.isdigit()
        or not SHORTEST <= int(seconds) <= LONGEST
    ):
        raise invalid(
            f"expires_after[seconds] must be an integer from {SHORTEST} to {LONGEST}.", "expires_after.seconds",
            "invalid_value",
        )  # fmt: skip
    return int(seconds)


def _is_encoded(file: Stored, services: Services) -> bool:
    """Whether the file is a job's result that is sent as the live service does: the CSV in base64."""
    return file.purpose == RESULTS and services.settings.result_csv == "base64"


def _sent_bytes(file: Stored, services: Services) -> int:
    return (file.bytes + 2) // 3 * 4 if _is_encoded(file, services) else file.bytes


def _encoded(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(3 * PIECE):  # whole groups of three, so that the pieces make one text
            yield base64.b64encode(piece)


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """An open file piece by piece; closed at its end."""
    with file:
        while piece := file.read(PIECE):
            yield piece
