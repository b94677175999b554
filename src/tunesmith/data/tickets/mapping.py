"""What the columns of an export mean: the mapping file, and the presets beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ...core.spec import Spec


def _listed(value: Any) -> Any:
    """A single value stands for a list of one; numbers are names as well."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values)


def _values(value: Any) -> Any:
    """`{column: value}` for `{column: [value]}`; YAML's true and false as an export spells them."""
    if not isinstance(value, dict):
        return value
    return {k: tuple(str(v).casefold() for v in (_listed(inner))) for k, inner in value.items()}


def _folded(value: Any) -> Any:
    return tuple(v.casefold() if isinstance(v, str) else v for v in _listed(value))


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""One column, or several of which the first that is filled counts. `a.b` is the key `b` inside the object `a`."""
Values = Annotated[dict[str, tuple[str, ...]], BeforeValidator(_values)]
"""Columns, and for each the values that are meant, large and small letters alike."""
Words = Annotated[tuple[str, ...], BeforeValidator(_folded)]
Tables = BeforeValidator(lambda value: [value] if isinstance(value, dict) else value)
"""One table stands for a list of one."""


class TicketTable(Spec):
    """A file with a row for each ticket, or the ticket's columns in a file of comments."""

    id: Names = Field(min_length=1)
    """The ticket's id."""
    title: Names = ()
    """Its subject line."""
    status: Names = ()
    """Open, solved, closed..."""
    satisfaction: Names = ()
    """How the customer rated the help."""
    created: Names = ()
    """When it was opened."""
    customer: Names = ()
    """The id of the customer who asked; it becomes the row's `subject`."""
    customer_email: Names = ()
    """Their address, to tell their comments by; it is not kept."""
    assignee: Names = ()
    """The id of the agent who has the ticket."""
    copied: Names = ()
    """Ids of people in copy, who may be neither the customer nor an agent."""
    body: Names = ()
    """The customer's first message, where it is no comment of its own."""
    comments: Names = ()
    """The list of comments inside the ticket, where it has one."""
    leave_out: Values = Field(default_factory=dict)
    """Tickets that are not read: columns and values."""
    marks: Names = ()
    """Further columns by which such a file is known."""


class CommentTable(Spec):
    """A file with a row for each comment, or the comments inside a ticket."""

    ticket: Names = ()
    """The id of its ticket; not needed inside a ticket."""
    id: Names = ()
    """The comment's id; a second comment with the same id is left out."""
    time: Names = ()
    """When it was written; comments are put in this order."""
    order: Names = ()
    """A number that gives the order, without times or for equal ones."""
    author: Names = ()
    """The id of who wrote it."""
    role: Names = ()
    """What the author is, in the words of `agents`, `customers` and `automated`."""
    name: Names = ()
    """The author's name; it is removed where a message ends with it."""
    email: Names = ()
    """The author's address."""
    body: Names = ()
    """The text."""
    html: Names = ()
    """The text as HTML, read where `body` is empty."""
    public: Names = ()
    """Whether the customer saw it."""
    private: Names = ()
    """Whether it is an internal note."""
    incoming: Names = ()
    """Whether it came from the customer."""
    title: Names = ()
    """Its own subject line; tells automatic replies."""
    headers: Names = ()
    """Its mail headers; tell automatic replies."""
    automated: Values = Field(default_factory=dict)
    """What no person wrote: columns and values."""
    leave_out: Values = Field(default_factory=dict)
    """Comments that are not read: columns and values."""
    marks: Names = ()
    """Further columns by which such a file is known."""


class PeopleTable(Spec):
    """A file with a row for each person: who is an agent and who is not."""

    id: Names = Field(min_length=1)
    """The person's id, as comments name their author."""
    role: Names = Field(min_length=1)
    """What the person is, in the words of `agents`, `customers` and `automated`."""
    name: Names = ()
    """The person's name."""
    marks: Names = ()
    """Further columns by which such a file is known."""


class Mapping(Spec):
    """What the columns of an export mean. A file is read as each table whose columns it has."""

    tickets: Annotated[tuple[TicketTable, ...], Tables] = ()
    """Tables of tickets."""
    comments: Annotated[tuple[CommentTable, ...], Tables] = Field(min_length=1)
    """Tables of comments."""
    people: Annotated[tuple[PeopleTable, ...], Tables] = ()
    """Tables of people."""
    agents: Words = ("agent", "admin", "support", "staff")
    """Roles whose public replies are the assistant's turns."""
    customers: Words = ("customer", "client", "end-user", "requester", "user", "contact")
    """Roles whose messages are the user's turns."""
    automated: Words = ("system", "bot", "automation", "trigger")
    """Roles that are no person."""
    others: Literal["agent", "unknown"] = "agent"
    """What an author is of whom nothing is known but that they are not the customer; `unknown` ones are left out."""
    satisfaction_scale: Words = ()
    """Ratings in words, the worst first; without them ratings are numbers."""
    time_format: str | None = None
    """How times are written (`%d.%m.%Y %H:%M`, as Python's strptime has it); None reads ISO 8601 and Unix times."""
    lenient: bool = False
    """Whether columns that are named may be absent, but those that a table cannot do without. The presets say true."""
