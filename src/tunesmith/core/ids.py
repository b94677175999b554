"""Names for records: readable, sortable by time, unique."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime


def run_id(name: str) -> str:
    """`<name>-<UTC time>-<6 random hex digits>`."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
