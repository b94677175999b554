"""Rows of every kind as conversations, so that what reads conversations reads them all; and back again."""

from __future__ import annotations

from ..core.messages import Example, Labelled, Message, Preference, Prompt, Row, Text

NOTHING = Message(role="assistant", content="")


def joined(row: Row) -> Example:
    """Every turn of the row, one behind the other; text stands as the user's. Rows without an answer get an empty one.

    Two rows say the same exactly when their joined forms do, but for the label of a labelled row.
    """
    if isinstance(row, Example):
        return row
    if isinstance(row, Preference):
        return _example(row, (*row.prompt, *row.chosen, *row.rejected))
    return better(row)


def better(row: Row) -> Example:
    """The prompt with the answer that the row holds up: of a pair the chosen one."""
    if isinstance(row, Preference):
        return _example(row, (*row.prompt, *row.chosen))
    if isinstance(row, Labelled):
        return _example(row, (*row.prompt, row.answer))
    if isinstance(row, Prompt):
        return _example(row, (*row.messages, NOTHING))
    if isinstance(row, Text):
        return _example(row, (*(row.messages or (Message(role="user", content=row.text),)), NOTHING))
    return row


def worse(row: Preference) -> Example:
    """The prompt with the rejected answer."""
    return _example(row, (*row.prompt, *row.rejected))


def parted(row: Row, example: Example) -> Row:
    """The row with the turns of `example`, a changed `joined(row)`."""
    turns, tools = example.messages, example.tools
    if isinstance(row, Preference):
        answers = len(row.prompt), len(row.prompt) + len(row.chosen)
        prompt, chosen, rejected = turns[: answers[0]], turns[answers[0] : answers[1]], turns[answers[1] :]
        return row.model_copy(update={"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": tools})
    if isinstance(row, Labelled):
        return row.model_copy(update={"prompt": turns[:-1], "answer": turns[-1], "tools": tools})
    if isinstance(row, Prompt):
        return row.model_copy(update={"messages": turns[:-1], "tools": tools})
    if isinstance(row, Text):
        said = {"messages": turns[:-1], "tools": tools} if row.messages else {"text": turns[0].content or ""}
        return row.model_copy(update=said)
    return example


def _example(row: Preference | Labelled | Prompt | Text, turns: tuple[Message, ...]) -> Example:
    return Example.model_construct(messages=turns, tools=row.tools, metadata={}, origin=row.origin)
