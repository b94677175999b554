"""The conversation that a kept answer stands in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.messages import Message
from .answers import Kept


def joined(instructions: str | None, messages: Sequence[Message]) -> list[Message]:
    """A conversation under its instructions, which stand with a system turn that it begins with."""
    if instructions is None:
        return list(messages)
    first = messages[0] if messages else None
    if first is not None and first.role in ("system", "developer"):
        return [first.model_copy(update={"content": f"{instructions}\n\n{first.content}"}), *messages[1:]]
    return [Message(role="system", content=instructions), *messages]


def turns(chain: Sequence[Kept]) -> list[Message]:
    """All turns of responses that stand on one another, with their answers; without instructions."""
    return [Message.model_validate(turn) for kept in chain for turn in (*kept.asked["messages"], answer_of(kept))]


def prompt_of(chain: Sequence[Kept]) -> list[Message]:
    """What the last of a chain answered. Instructions of earlier ones do not hold for it."""
    last = chain[-1]
    own = [Message.model_validate(turn) for turn in last.asked["messages"]]
    return joined(last.asked.get("instructions"), [*turns(chain[:-1]), *own])


def answer_of(kept: Kept) -> dict[str, Any]:
    """The answer as a turn."""
    answer: dict[str, Any] = kept.answered["message"]
    return answer
