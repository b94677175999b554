"""A ticket and a comment in common form, read from a row as a mapping says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from ..formats.base import RowError
from . import columns
from .columns import Row
from .mapping import CommentTable, TicketTable

AGENT, CUSTOMER = "agent", "customer"
LONGEST = 200_000
"""Letters of a comment that is still read: a longer one is an attachment or a log."""
FACTS = ("title", "status", "satisfaction", "created", "customer", "customer_email", "assignee", "body")


@dataclass(frozen=True)
class Ticket:
    """What is known of a ticket beside its comments. "" where it is not known."""

    id: str
    title: str = ""
    status: str = ""
    satisfaction: str = ""
    created: str = ""
    """As the export has it; `opened` is the same as a time."""
    opened: float | None = None
    customer: str = ""
    customer_email: str = ""
    assignee: str = ""
    body: str = ""
    copied: tuple[str, ...] = ()
    left_out: bool = False
    """Whether the mapping says that such tickets are not read."""


@dataclass(frozen=True)
class Comment:
    """One message on a ticket, as the export has it."""

    id: str = ""
    time: float | None = None
    order: float | None = None
    author: str = ""
    role: str = ""
    name: str = ""
    email: str = ""
    body: str = ""
    html: str = ""
    public: bool | None = True
    """None where the export says neither yes nor no."""
    incoming: bool | None = None
    title: str = ""
    headers: str = ""
    automated: bool = False
    left_out: bool = False
    """Whether the mapping says that such comments are not read."""


def ticket_of(row: Row, table: TicketTable, form: str | None) -> Ticket:
    """RowError where the id is absent or the time cannot be read."""
    facts = {name: columns.text(row, getattr(table, name))[:LONGEST] for name in FACTS}
    return Ticket(
        id=required(row, table.id, "ticket's id"), **facts, opened=columns.time(row, table.created, form),
        copied=columns.texts(row, table.copied), left_out=columns.any_of(row, table.leave_out),
    )  # fmt: skip


def comment_of(row: Row, table: CommentTable, form: str | None) -> Comment:
    """RowError where the time is absent or cannot be read, though times give the order."""
    time = columns.time(row, table.time, form)
    if table.time and time is None:
        raise RowError(f"the comment has no time in '{' or '.join(table.time)}'")
    plain = ("id", "author", "role", "name", "email", "body", "html", "title", "headers")
    facts = {name: columns.text(row, getattr(table, name))[: LONGEST + 1] for name in plain}
    return Comment(
        **facts, time=time, order=columns.number(row, table.order), public=_public(row, table),
        incoming=columns.flag(row, table.incoming), automated=columns.any_of(row, table.automated),
        left_out=columns.any_of(row, table.leave_out),
    )  # fmt: skip


def required(row: Row, names: tuple[str, ...], what: str) -> str:
    """The text of a column that no row can do without."""
    found = columns.text(row, names)
    if not found:
        raise RowError(f"the {what} in '{' or '.join(names)}' is empty")
    return found


def nested(row: Row, names: tuple[str, ...]) -> list[Any]:
    """The comments inside a ticket; a table has them as JSON."""
    found = columns.value(row, names)
    if isinstance(found, str):
        try:
            found = orjson.loads(found)
        except orjson.JSONDecodeError as error:
            raise RowError(f"'{' or '.join(names)}' is not JSON: {error.msg}") from None
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise RowError(f"'{' or '.join(names)}' is not a list of comments")
    return found


def _public(row: Row, table: CommentTable) -> bool | None:
    """Both columns must agree that the customer saw it; with neither named everything is public."""
    said = [columns.flag(row, table.public)] if table.public else []
    if table.private:
        private = columns.flag(row, table.private)
        said.append(None if private is None else not private)
    if False in said:
        return False
    return None if None in said else True
