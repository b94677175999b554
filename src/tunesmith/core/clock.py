"""The time of day for records, and nothing else. Durations use `time.monotonic`."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """The current time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def today() -> str:
    """The day in UTC, YYYY-MM-DD."""
    return now()[:10]
