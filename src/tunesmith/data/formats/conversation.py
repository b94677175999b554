"""Messages as they stand in JSON, to messages: what all formats with a list of turns share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ...core.errors import nearest
from ...core.messages import Message
from .base import RowError

Tools = tuple[dict[str, Any], ...]


def messages_of(raw: object, key: str) -> tuple[Message, ...]:
    """A list of OpenAI messages under `key`; a RowError with the place of the first that is wrong."""
    if not isinstance(raw, list):
        raise RowError(f"'{key}' must be a list, not {type(raw).__name__}")
    if not raw:
        raise RowError(f"'{key}' is empty")
    return tuple(message_of(item, f"{key}[{i}]") for i, item in enumerate(raw))


def message_of(item: object, at: str) -> Message:
    """One OpenAI message. Keys that are null are as good as absent: tables have every key in every row."""
    if not isinstance(item, dict):
        raise RowError(f"{at} must be an object, not {type(item).__name__}")
    item = {key: value for key, value in item.items() if value is not None}
    if isinstance(item.get("content"), list):
        item |= {"content": _joined_parts(item["content"], at)}
    try:
        message = Message.model_validate(item)
    except ValidationError as error:
        raise RowError(f"{at}: {_reason(error)}") from None
    if message.weight is not None and message.role != "assistant":
        raise RowError(f"{at}: 'weight' is only for assistant turns")
    return filled(message, at)


def filled(message: Message, at: str) -> Message:
    """The message, unless it is a user or assistant turn that says nothing."""
    if not (message.content or "").strip() and not message.tool_calls and message.role in ("assistant", "user"):
        raise RowError(f"{at}: the {message.role} turn is empty")
    return message


def as_json(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages in the form that `messages_of` reads."""
    return [message.model_dump(mode="json", exclude_none=True) for message in messages]


def trainable(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation, unless it holds nothing to learn: an assistant turn with weight behind another turn."""
    trained = [m for m in messages if m.role == "assistant"]
    if not trained:
        raise RowError("no assistant turn: nothing to learn from")
    if all(m.weight == 0 for m in trained):
        raise RowError("every assistant turn has weight 0: nothing to learn from")
    last = max(i for i, m in enumerate(messages) if m.role == "assistant")
    if all(m.role == "assistant" for m in messages[:last]):
        raise RowError("nothing stands before the assistant's turns: there is no prompt to answer")
    return messages


def tools_of(raw: object) -> Tools | None:
    """A list of tools; an empty one is as good as none."""
    if raw is None:
        return None
    if not isinstance(raw, list) or not all(isinstance(tool, dict) for tool in raw):
        raise RowError("'tools' must be a list of objects")
    return tuple(raw) or None


def tools_key(tools: Tools | None) -> dict[str, Any]:
    """What `tools_of` reads back, as a part of a row."""
    return {"tools": list(tools)} if tools else {}


def _joined_parts(parts: list[Any], at: str) -> str:
    """Text parts joined; any other kind of part is refused, for these models read text."""
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise RowError(f"{at}: only content parts of type 'text' can be trained on, not {kind!r}")
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
