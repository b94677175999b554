"""Names for records: readable, sortable by time, unique."""

from __future__ import annotations

import secrets
import string
from datetime import UTC, datetime

_BASE62 = string.ascii_letters + string.digits


def run_id(name: str) -> str:
    """`<name>-<UTC time>-<6 random hex digits>`."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def base62(length: int) -> str:
    """Random letters and digits: 5.95 bits each, from the system's secure source."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def record_id(prefix: str) -> str:
    """A prefix and 24 random letters and digits: `record_id("ftjob-")`. Unguessable, so that it tells nothing."""
    return prefix + base62(24)
