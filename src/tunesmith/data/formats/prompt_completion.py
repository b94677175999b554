"""`{"prompt": "...", "completion": "..."}`; both may be lists of messages, as TRL's users have them."""

from __future__ import annotations

from typing import Any

from ...core.messages import Example, Kind, Message, Row
from .base import extras, one_exchange, rest, text_field
from .conversation import messages_of, tools_of, trainable


class PromptCompletion:
    """A prompt and the text that should follow it, as one user and one assistant turn."""

    name = "prompt_completion"
    kind: Kind = "supervised"

    def matches(self, row: dict[str, Any]) -> bool:
        """Both keys decide."""
        return "prompt" in row and "completion" in row

    def parse(self, row: dict[str, Any]) -> Example:
        """Surrounding white space of texts is dropped: chat templates bring their own."""
        if _turns(row["prompt"]) and _turns(row["completion"]):
            return _conversation(row)
        turns = (
            Message(role="user", content=text_field(row, "prompt").strip()),
            Message(role="assistant", content=text_field(row, "completion").strip()),
        )
        return Example(messages=turns, metadata=rest(row, {"prompt", "completion"}))

    def export(self, row: Row) -> dict[str, Any]:
        """One exchange of texts without surrounding white space fits."""
        prompt, completion = one_exchange(row, self.name)
        metadata = row.metadata if isinstance(row, Example) else {}
        return {"prompt": prompt, "completion": completion} | extras(metadata)


def _turns(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _conversation(row: dict[str, Any]) -> Example:
    """Only the completion is learned, as these rows mean it: the prompt's answers get weight 0."""
    prompt = [
        m.model_copy(update={"weight": 0.0}) if m.role == "assistant" else m
        for m in messages_of(row["prompt"], "prompt")
    ]
    messages = trainable((*prompt, *messages_of(row["completion"], "completion")))
    return Example(
        messages=messages, tools=tools_of(row.get("tools")), metadata=rest(row, {"prompt", "completion", "tools"})
    )  # fmt: skip
