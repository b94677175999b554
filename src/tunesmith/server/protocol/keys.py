"""API keys and the audit log on the wire: calls of our own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .common import Ask, Reply, Text

ScopeName = Literal["read", "infer", "train", "admin"]
Most = Annotated[int, Field(ge=1, le=2**31 - 1)]
TEN_YEARS = 315_360_000


class KeyRequest(Ask):
    """A key to make, for the project of the key that asks."""

    name: Annotated[Text, Field(min_length=1, max_length=200)]
    """What or whom it is for."""
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=4)]
    """What it opens; scopes do not include each other."""
    expires_in_seconds: Annotated[int, Field(ge=1, le=TEN_YEARS)] | None = None
    """Null: it does not expire."""
    max_running: Most | None = None
    """Jobs of it that may train at a time; null: no limit."""
    max_queued: Most | None = None
    """Unfinished jobs that it may have; null: the server's limit."""


class ApiKey(Reply):
    """A key, as far as it may be shown."""

    id: str
    object: Literal["tunesmith.key"] = "tunesmith.key"
    name: str
    redacted_value: str
    project_id: str
    scopes: list[str]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    max_running: int | None
    max_queued: int | None


class MadeKey(ApiKey):
    """A key that was just made."""

    value: str | None
    """The key itself, told this once; null in the answer to a repeated request."""


class AuditEntry(Reply):
    """What somebody did, and when (seconds since 1970)."""

    id: str
    """The entry's number."""
    object: Literal["tunesmith.audit_entry"] = "tunesmith.audit_entry"
    at: float
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    hash: str
    """SHA-256 over this entry and the hash before it."""
