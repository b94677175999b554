"""`{"instruction", "input", "output"}`: Alpaca's rows."""

from __future__ import annotations

from typing import Any

from ...core.messages import Example, Kind, Message, Row
from .base import RowError, extras, plain_turns, rest, text_field

KEYS = {"instruction", "input", "output", "system", "history"}


class Instruction:
    """An instruction, an optional input below it, an optional system text and history, and the answer."""

    name = "instruction"
    kind: Kind = "supervised"

    def matches(self, row: dict[str, Any]) -> bool:
        """An instruction and an output decide."""
        return "instruction" in row and "output" in row

    def parse(self, row: dict[str, Any]) -> Example:
        """What was asked, then the output as the answer."""
        prompt, output = asked(row), text_field(row, "output")
        turns = (*prompt, Message(role="assistant", content=output))
        return Example(messages=turns, metadata=rest(row, KEYS))

    def export(self, row: Row) -> dict[str, Any]:
        """A system text and exchanges fit; the input stays empty, for where it began is not known any more."""
        turns = plain_turns(row, self.name)
        system = {"system": turns.pop(0)[1]} if turns[0][0] == "system" else {}
        roles, texts = [role for role, _ in turns], [text for _, text in turns]
        if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
            raise RowError(f"'{self.name}' holds exchanges of user and assistant, not " + ", ".join(roles))
        pairs = [list(pair) for pair in zip(texts[0::2], texts[1::2], strict=True)]
        history = {"history": pairs[:-1]} if pairs[:-1] else {}
        metadata = row.metadata if isinstance(row, Example) else {}
        last = {"instruction": pairs[-1][0], "input": "", "output": pairs[-1][1]}
        return system | last | history | extras(metadata)


def asked(row: dict[str, Any]) -> tuple[Message, ...]:
    """The system text, the history and the question; the input below it, as Alpaca-style trainers do."""
    instruction, extra = text_field(row, "instruction"), text_field(row, "input", required=False)
    turns = []
    if system := text_field(row, "system", required=False):
        turns.append(Message(role="system", content=system))
    turns += _history(row.get("history"))
    turns.append(Message(role="user", content=f"{instruction}\n\n{extra}" if extra.strip() else instruction))
    return tuple(turns)


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
