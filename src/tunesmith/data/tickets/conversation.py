"""A ticket to a conversation: customers' messages are the user's turns, agents' public replies the assistant's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ...core.messages import Message
from . import mail
from .automated import is_automated
from .mapping import Mapping
from .records import AGENT, CUSTOMER, LONGEST, Comment, Ticket

Person = Callable[[str], tuple[str, str]]
"""An author's id to (role, name), "" where they are not known."""


@dataclass
class Counts:
    """What became of tickets and comments: reasons for what was left out, in words, with how often."""

    tickets: Counter[str] = field(default_factory=Counter)
    comments: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    """Turns from which something was taken off."""
    roles: Counter[str] = field(default_factory=Counter)
    """Roles that the mapping does not know, of comments that were left out."""
    assumed: int = 0
    """Comments that are the agent's only because they are not the customer's."""


@dataclass
class Builder:
    """Makes conversations by one mapping, and counts."""

    mapping: Mapping
    person: Person
    system: str = ""
    with_title: bool = False
    counts: Counts = field(default_factory=Counts)

    def messages(self, ticket: Ticket, comments: list[Comment]) -> tuple[Message, ...] | None:
        """The turns, beginning with the customer and ending with an agent; None, counted, where there are none."""
        turns = list(self._turns(ticket, comments))
        sides = [side for side, _ in turns]
        reason = "no public reply of an agent" if AGENT not in sides else ""
        if not reason and CUSTOMER not in sides:
            reason = "no message of the customer"
        if not reason and AGENT not in sides[sides.index(CUSTOMER) :]:
            reason = "no reply of an agent behind the customer's message"
        if reason:
            self.counts.tickets[reason] += 1
            return None
        first, last = sides.index(CUSTOMER), len(sides) - 1 - sides[::-1].index(AGENT)
        self.counts.comments["written by an agent before the customer"] += first
        self.counts.comments["written by the customer after the last reply"] += len(turns) - 1 - last
        return self._merged(ticket, turns[first : last + 1])

    def _merged(self, ticket: Ticket, turns: list[tuple[str, str]]) -> tuple[Message, ...]:
        """Turns of one side in a row are one, with an empty line between."""
        if self.with_title and ticket.title and ticket.title not in turns[0][1]:
            turns = [(turns[0][0], f"{ticket.title}\n\n{turns[0][1]}"), *turns[1:]]
        joined: list[tuple[str, list[str]]] = []
        for side, text in turns:
            if joined and joined[-1][0] == side:
                joined[-1][1].append(text)
            else:
                joined.append((side, [text]))
        made = [Message(role="system", content=self.system)] if self.system else []
        made += [
            Message(role="assistant" if side == AGENT else "user", content="\n\n".join(texts))
            for side, texts in joined
        ]  # fmt: skip
        return tuple(made)

    def _turns(self, ticket: Ticket, comments: list[Comment]) -> Iterator[tuple[str, str]]:
        """(side, text) of every comment that counts. The ticket's own first message comes first unless a comment
        of the customer says the same."""
        said = list(self._said(ticket, comments))
        opening = mail.clean(ticket.body).text
        squeezed = "".join(opening.split())
        if squeezed and not any(side == CUSTOMER and squeezed[:400] in "".join(text.split()) for side, text in said):
            yield CUSTOMER, opening
        yield from said

    def _said(self, ticket: Ticket, comments: list[Comment]) -> Iterator[tuple[str, str]]:
        seen: set[object] = set()
        for comment in comments:
            key = comment.id or (comment.time and (comment.time, comment.author, comment.body, comment.html))
            reason = "the same comment again" if key and key in seen else _unread(comment)
            seen.add(key)
            role, name = self._who(comment)
            if role.casefold() in self.mapping.automated and not comment.incoming:  # a machine files what comes in
                reason = reason or "automatic message"
            side = None if reason else self._side(ticket, comment, role)
            if not reason and side is None:
                reason = "written by nobody that is known to be an agent or the customer"
                self.counts.roles[role or "(none)"] += 1
            if not reason:
                cleaned = mail.clean(comment.body, comment.html, comment.name or name)
                reason = _automatic(comment, cleaned.text) or _empty(comment, cleaned.text)
                if not reason and side:
                    self.counts.taken.update(cleaned.taken)
                    yield side, cleaned.text
            if reason:
                self.counts.comments[reason] += 1

    def _who(self, comment: Comment) -> tuple[str, str]:
        role, name = self.person(comment.author) if comment.author else ("", "")
        return comment.role or role, name

    def _side(self, ticket: Ticket, comment: Comment, role: str) -> str | None:
        """Whose message it is, by the surest sign first; None where that is not known."""
        if comment.incoming is not None:
            return CUSTOMER if comment.incoming else AGENT
        if comment.author and comment.author == ticket.customer:
            return CUSTOMER
        if comment.email and comment.email.casefold() in (ticket.customer_email.casefold(), ticket.customer.casefold()):
            return CUSTOMER
        if role:
            word = role.casefold()
            return AGENT if word in self.mapping.agents else CUSTOMER if word in self.mapping.customers else None
        if comment.author and comment.author == ticket.assignee:
            return AGENT
        tellable = ticket.customer or ticket.customer_email
        known_stranger = comment.author in ticket.copied or not (comment.author or comment.email)
        if self.mapping.others == "unknown" or known_stranger or not tellable:
            return None
        self.counts.assumed += 1
        return AGENT


def _unread(comment: Comment) -> str:
    """Why a comment is left out before its text is looked at; "" where it is not."""
    if comment.left_out:
        return "left out by the mapping"
    if comment.public is None:
        return "not said to be public or internal"
    if not comment.public:
        return "internal note"
    if comment.automated:
        return "automatic message"
    if max(len(comment.body), len(comment.html)) > LONGEST:
        return f"longer than {LONGEST:,} letters"
    return ""


def _automatic(comment: Comment, text: str) -> str:
    return "automatic message" if is_automated(text or comment.body, comment.title, comment.headers) else ""


def _empty(comment: Comment, text: str) -> str:
    if text:
        return ""
    return "nothing left but quoted mail and signature" if (comment.body or comment.html).strip() else "empty"
