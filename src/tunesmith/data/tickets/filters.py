"""Which tickets are wanted: by status, by satisfaction, by the day on which they were opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ...core.errors import UsageError, nearest
from .columns import moment
from .mapping import Mapping
from .records import Ticket


@dataclass(frozen=True)
class Filters:
    """What is asked for; None asks for nothing."""

    statuses: tuple[str, ...] = ()
    """In small letters; none asks for any."""
    satisfaction: float | None = None
    """The least rating: a number, or the place on the mapping's scale."""
    since: float | None = None
    until: float | None = None
    """Seconds since 1970 in UTC: from `since` on, before `until`."""
    scale: tuple[str, ...] = ()

    def refusal(self, ticket: Ticket, opened: float | None) -> str:
        """Why a ticket is not wanted; "" where it is. `opened` is when it was, as far as that is known."""
        if self.statuses and ticket.status.casefold() not in self.statuses:
            return "another status"
        if self.satisfaction is not None:
            rating = _rating(ticket.satisfaction, self.scale)
            if rating is None:
                return "no satisfaction rating"
            if rating < self.satisfaction:
                return "a lower satisfaction rating"
        if self.since is not None or self.until is not None:
            if opened is None:
                return "no date"
            if not (self.since or -math.inf) <= opened < (math.inf if self.until is None else self.until):
                return "another date"
        return ""


def filters(
    mapping: Mapping, *, statuses: Sequence[str] = (), satisfaction: str | None = None, since: str | None = None,
    until: str | None = None,
) -> Filters:  # fmt: skip
    """What the command line asks for. UsageError where the mapping cannot tell it."""
    words = tuple(word.strip().casefold() for status in statuses for word in status.split(",") if word.strip())
    if words and not any(table.status for table in mapping.tickets):
        raise UsageError("--status: the mapping names no column of the status", mend="add tickets.status to --mapping")
    return Filters(
        words, _least(mapping, satisfaction), _day("--since", since), _day("--until", until, behind=True),
        mapping.satisfaction_scale,
    )  # fmt: skip


def _least(mapping: Mapping, asked: str | None) -> float | None:
    if asked is None:
        return None
    if not any(table.satisfaction for table in mapping.tickets):
        mend = "add tickets.satisfaction to --mapping"
        raise UsageError("--min-satisfaction: the mapping names no column of the satisfaction", mend=mend)
    rating = _rating(asked, mapping.satisfaction_scale)
    if rating is None and mapping.satisfaction_scale:
        raise UsageError(f"--min-satisfaction: no rating is called '{asked}'",
                         mend=nearest(asked.casefold(), mapping.satisfaction_scale))  # fmt: skip
    if rating is None:
        raise UsageError(f"--min-satisfaction: '{asked}' is no number",
                         mend="give one, or name the words from the worst to the best in the mapping's "
                         "satisfaction_scale")  # fmt: skip
    return rating


def _rating(said: str, scale: Sequence[str]) -> float | None:
    word = said.strip().casefold()
    if scale:
        return float(scale.index(word)) if word in scale else None
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _day(option: str, asked: str | None, *, behind: bool = False) -> float | None:
    """A day or a time; behind a day is the next one's beginning, so that `--until` holds the whole day."""
    if asked is None:
        return None
    try:
        found = moment(asked)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{option}: '{asked}' is no date", mend=f"{option} 2026-03-31") from None
    day = found == datetime(found.year, found.month, found.day, tzinfo=UTC) and ":" not in asked
    return (found + timedelta(days=1) if day and behind else found).timestamp()
