"""`{"instruction", "input", "output"}`: Alpaca's rows."""

from __future__ import annotations

from typing import Any

from ...core.messages import Message
from .base import Parsed, RowError, rest, text_field


class Instruction:
    """An instruction, an optional input below it, an optional system text and history, and the answer."""

    name = "instruction"

    def matches(self, row: dict[str, Any]) -> bool:
        """An instruction and an output decide."""
        return "instruction" in row and "output" in row

    def parse(self, row: dict[str, Any]) -> Parsed:
        """The input follows the instruction after a blank line, as Alpaca-style trainers do."""
        instruction, output = text_field(row, "instruction"), text_field(row, "output")
        extra = text_field(row, "input", required=False)
        turns = []
        if system := text_field(row, "system", required=False):
            turns.append(Message(role="system", content=system))
        turns += _history(row.get("history"))
        turns.append(Message(role="user", content=f"{instruction}\n\n{extra}" if extra.strip() else instruction))
        turns.append(Message(role="assistant", content=output))
        return Parsed(tuple(turns), None, rest(row, {"instruction", "input", "output", "system", "history"}))


def _history(raw: object) -> list[Message]:
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise RowError("'history' must be a list of [question, answer] pairs")
    turns = []
    for pair in raw:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise RowError("'history' must be a list of [question, answer] pairs")
        if not all(text.strip() for text in pair):
            raise RowError("'history' holds an empty question or answer")
        turns += [Message(role="user", content=pair[0]), Message(role="assistant", content=pair[1])]
    return turns
