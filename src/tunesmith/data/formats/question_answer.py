"""`{"question": "...", "answer": "..."}`, and the other names that such pairs go by."""

from __future__ import annotations

from typing import Any

from ...core.messages import Example, Kind, Message, Row
from .base import extras, one_exchange, rest, text_field

PAIRS = (("question", "answer"), ("query", "response"), ("question", "response"), ("prompt", "response"),
         ("instruction", "response"), ("input", "output"))  # fmt: skip


class QuestionAnswer:
    """One question and its answer, both kept as they stand."""

    name = "question_answer"
    kind: Kind = "supervised"

    def matches(self, row: dict[str, Any]) -> bool:
        """One of the known pairs of keys decides."""
        return _pair(row) is not None

    def parse(self, row: dict[str, Any]) -> Example:
        """A user and an assistant turn; Dolly's `context` of an instruction stands below it."""
        question, answer = _pair(row) or PAIRS[0]
        asked, used = text_field(row, question), {question, answer}
        if question == "instruction":
            context = text_field(row, "context", required=False)
            asked, used = f"{asked}\n\n{context}" if context.strip() else asked, used | {"context"}
        turns = Message(role="user", content=asked), Message(role="assistant", content=text_field(row, answer))
        return Example(messages=turns, metadata=rest(row, used))

    def export(self, row: Row) -> dict[str, Any]:
        """One exchange fits."""
        question, answer = one_exchange(row, self.name)
        metadata = row.metadata if isinstance(row, Example) else {}
        return {"question": question, "answer": answer} | extras(metadata)


def _pair(row: dict[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if pair[0] in row and pair[1] in row), None)
