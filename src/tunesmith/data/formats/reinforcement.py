"""Messages that end with the user, or a prompt alone, and fields for graders: rows for reinforcement."""

from __future__ import annotations

from typing import Any

from ...core.messages import Kind, Message, Prompt, Row
from .base import RowError, of_kind, text_field
from .conversation import as_json, messages_of, tools_key, tools_of
from .instruction import Instruction
from .question_answer import QuestionAnswer
from .sharegpt import ShareGPT

_ANSWERS = ("completion", "chosen", "rejected", "response")
_ANSWERED = (Instruction(), QuestionAnswer(), ShareGPT())


class Reinforcement:
    """A question without an answer; every other key goes to the graders under its own name."""

    name = "reinforcement"
    kind: Kind = "prompt"

    def matches(self, row: dict[str, Any]) -> bool:
        """Messages that wait for an answer beside other keys, or a prompt beside no known answer, decide.

        A row that another format takes for a question with its answer is none of these: {"instruction", "output"}, say.
        """
        if "messages" in row:
            return bool(set(row) - {"messages", "tools", "metadata"}) and _waits(row["messages"])
        if "prompt" not in row or any(key in row for key in _ANSWERS):
            return False
        return not any(other.matches(row) for other in _ANSWERED)

    def parse(self, row: dict[str, Any]) -> Prompt:
        """The messages and the fields."""
        key = "messages" if "messages" in row else "prompt"
        if key == "prompt" and not isinstance(row.get(key), list):
            messages: tuple[Message, ...] = (Message(role="user", content=text_field(row, key)),)
        else:
            messages = messages_of(row.get(key), key)
        if messages[-1].role not in ("user", "tool"):
            raise RowError(f"the last turn is the {messages[-1].role}'s: there is nothing left to answer")
        fields = {name: value for name, value in row.items() if name not in (key, "tools")}
        return Prompt(messages=messages, tools=tools_of(row.get("tools")), fields=fields)

    def export(self, row: Row) -> dict[str, Any]:
        """Every prompt fits whose fields are not named like the conversation's own.

        Messages alone would be taken for a chat row that lacks its answer, so without fields they are the `prompt`.
        """
        mine = of_kind(row, Prompt, self.name)
        key = "messages" if set(mine.fields) - {"metadata"} else "prompt"
        return {key: as_json(mine.messages)} | tools_key(mine.tools) | mine.fields


def _waits(messages: object) -> bool:
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") in ("user", "tool")
