"""Files and uploads on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .common import Ask, Reply, Text

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
"""What a client may say that a file is for."""
SHORTEST, LONGEST = 3_600, 2_592_000
"""Seconds that a file may be kept for, where it expires."""


class File(Reply):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    """uploaded, processed or error; clients wait until it is one of the last two."""
    expires_at: int | None = None
    status_details: str | None = None


class ExpiresAfter(Ask):
    """When a file shall go."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=SHORTEST, le=LONGEST)


class UploadRequest(Ask):
    """A file that will come in parts."""

    filename: Text = Field(min_length=1, max_length=1_024)
    purpose: Literal["assistants", "batch", "fine-tune", "vision"]
    bytes: int = Field(gt=0)
    mime_type: Text = Field(max_length=256)
    expires_after: ExpiresAfter | None = None


class CompleteRequest(Ask):
    """The parts in their order, and perhaps the MD5 of the whole in hex or base64."""

    part_ids: list[Text] = Field(max_length=10_000)
    md5: Text | None = Field(default=None, max_length=64)


class Upload(Reply):
    """An upload."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    """pending, completed, cancelled or expired."""
    expires_at: int
    file: File | None = None


class UploadPart(Reply):
    """A part that has arrived."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
