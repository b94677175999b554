"""`{"messages": [{"role", "content", ...}], "tools": [...]}`: OpenAI's chat rows."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ...core.errors import nearest
from ...core.messages import Message
from .base import Parsed, RowError, rest


class Chat:
    """Rows with a `messages` list."""

    name = "chat"

    def matches(self, row: dict[str, Any]) -> bool:
        """A `messages` key decides."""
        return "messages" in row

    def parse(self, row: dict[str, Any]) -> Parsed:
        """Check roles, contents, weights and tools; at least one assistant turn must carry loss."""
        raw = row.get("messages")
        if not isinstance(raw, list):
            raise RowError(f"'messages' must be a list, not {type(raw).__name__}")
        if not raw:
            raise RowError("'messages' is empty")
        messages = tuple(_message(item, i) for i, item in enumerate(raw))
        trained = [m for m in messages if m.role == "assistant"]
        if not trained:
            raise RowError("no assistant turn: nothing to learn from")
        if all(m.weight == 0 for m in trained):
            raise RowError("every assistant turn has weight 0: nothing to learn from")
        last = max(i for i, m in enumerate(messages) if m.role == "assistant")
        if all(m.role == "assistant" for m in messages[:last]):
            raise RowError("nothing stands before the assistant's turns: there is no prompt to answer")
        return Parsed(messages, _tools(row.get("tools")), rest(row, {"messages", "tools"}))


def _message(item: object, index: int) -> Message:
    at = f"messages[{index}]"
    if not isinstance(item, dict):
        raise RowError(f"{at} must be an object, not {type(item).__name__}")
    if isinstance(item.get("content"), list):
        item = item | {"content": _joined_parts(item["content"], at)}
    try:
        message = Message.model_validate(item)
    except ValidationError as error:
        raise RowError(f"{at}: {_reason(error)}") from None
    if message.weight is not None and message.role != "assistant":
        raise RowError(f"{at}: 'weight' is only for assistant turns")
    if not (message.content or "").strip() and not message.tool_calls and message.role in ("assistant", "user"):
        raise RowError(f"{at}: the {message.role} turn is empty")
    return message


def _joined_parts(parts: list[Any], at: str) -> str:
    """Text parts joined; any other kind of part is refused, for these models read text."""
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise RowError(f"{at}: only content parts of type 'text' can be trained on")
        texts.append(part["text"])
    return "".join(texts)


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {nearest(key, Message.model_fields)}"
    if first["type"] == "missing":
        return f"'{key}' is missing"
    return f"'{key}': {first['msg'][0].lower()}{first['msg'][1:]}"


def _tools(raw: object) -> tuple[dict[str, Any], ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, list) or not all(isinstance(tool, dict) for tool in raw):
        raise RowError("'tools' must be a list of objects")
    return tuple(raw)
