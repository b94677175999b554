"""`{"conversations": [{"from", "value"}], "tools": "[...]"}`: ShareGPT's rows, with tool calls as JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ...core.errors import nearest
from ...core.messages import Example, Kind, Message, Role, Row
from .base import RowError, extras, of_kind, rest, text_field
from .conversation import Tools, filled, tools_of, trainable

CALL = "function_call"
ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "model": "assistant", "system": "system", "observation": "tool", "tool": "tool", "function_response": "tool",
    CALL: "assistant", "tool_call": "assistant",
}  # fmt: skip
_NAMES: dict[Role, str] = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


class ShareGPT:
    """Turns by `from` and `value`; a call is a turn of its own, and what it gave is an observation."""

    name = "sharegpt"
    kind: Kind = "supervised"

    def matches(self, row: dict[str, Any]) -> bool:
        """A `conversations` key decides."""
        return "conversations" in row

    def parse(self, row: dict[str, Any]) -> Example:
        """Turns in order, a `system` text of the row before them."""
        messages = trainable(conversation(row))
        return Example(
            messages=messages, tools=sharegpt_tools(row.get("tools")),
            metadata=rest(row, {"conversations", "system", "tools"}),
        )  # fmt: skip

    def export(self, row: Row) -> dict[str, Any]:
        """Texts, weights, calls without an own text, and tools fit."""
        example = of_kind(row, Example, self.name)
        turns = [_turn(message, f"messages[{i}]") for i, message in enumerate(example.messages)]
        tools = {"tools": json.dumps(list(example.tools), ensure_ascii=False)} if example.tools else {}
        return {"conversations": turns} | tools | extras(example.metadata)


def conversation(row: dict[str, Any]) -> tuple[Message, ...]:
    """The turns of a ShareGPT row; calls get ids, which their observations repeat, as templates want them."""
    system = text_field(row, "system", required=False)
    head = (Message(role="system", content=system),) if system else ()
    return (*head, *turns_of(row.get("conversations"), "conversations"))


def turns_of(raw: object, key: str) -> tuple[Message, ...]:
    """A list of from/value turns under `key`."""
    if not isinstance(raw, list):
        raise RowError(f"'{key}' must be a list, not {type(raw).__name__}")
    if not raw:
        raise RowError(f"'{key}' is empty")
    ids, open_calls = _ids(), list[str]()
    messages = []
    for index, item in enumerate(raw):
        message = _message(item, f"{key}[{index}]", ids)
        open_calls += [call["id"] for call in message.tool_calls or ()]
        if message.role == "tool" and open_calls:
            message = message.model_copy(update={"tool_call_id": open_calls.pop(0)})
        messages.append(message)
    return tuple(messages)


def sharegpt_tools(raw: object) -> Tools | None:
    """Tools as JSON text or as a list; a bare function is put into OpenAI's form."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw) if raw.strip() else None
        except (ValueError, RecursionError):
            raise RowError("'tools' is not JSON") from None
    tools = tools_of(raw)
    return tuple(t if "function" in t else {"type": "function", "function": t} for t in tools) if tools else None


def _ids() -> Iterator[str]:
    """Nine letters and digits, which is what the strictest templates take."""
    number = 0
    while True:
        yield f"call{number:05d}"
        number += 1


def _message(item: object, at: str, ids: Iterator[str]) -> Message:
    if not isinstance(item, dict):
        raise RowError(f"{at} must be an object, not {type(item).__name__}")
    speaker, value, weight = item.get("from"), item.get("value"), item.get("weight")
    unknown = sorted(key for key in item if key not in ("from", "value", "weight") and item[key] is not None)
    if unknown:
        raise RowError(f"{at}: unknown key '{unknown[0]}'; {nearest(unknown[0], ('from', 'value', 'weight'))}")
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise RowError(f"{at}: 'from' is {speaker!r}; {nearest(str(speaker), ROLES)}")
    if not isinstance(value, str):
        raise RowError(f"{at}: 'value' must be a string, not {type(value).__name__}")
    role = ROLES[speaker]
    if weight is not None and (role != "assistant" or isinstance(weight, bool) or not _finite(weight)):
        raise RowError(f"{at}: 'weight' is a number from 0 on, and only for assistant turns")
    if speaker in (CALL, "tool_call"):
        return Message(role=role, tool_calls=_calls(value, at, ids), weight=weight)
    return filled(Message(role=role, content=value, weight=weight), at)


def _finite(weight: object) -> bool:
    return isinstance(weight, int | float) and 0 <= weight < float("inf")


def _calls(value: str, at: str, ids: Iterator[str]) -> tuple[dict[str, Any], ...]:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        raise RowError(f"{at}: the call is not JSON") from None
    calls = parsed if isinstance(parsed, list) else [parsed]
    if not calls or not all(isinstance(c, dict) and set(c) == {"name", "arguments"} for c in calls):
        raise RowError(f"{at}: a call is an object with 'name' and 'arguments', or a list of such")
    return tuple(_call(call, at, next(ids)) for call in calls)


def _call(call: dict[str, Any], at: str, number: str) -> dict[str, Any]:
    name, arguments = call["name"], call["arguments"]
    if not isinstance(name, str) or not isinstance(arguments, str | dict):
        raise RowError(f"{at}: 'name' must be a string, and 'arguments' an object or JSON text")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": number, "type": "function", "function": {"name": name, "arguments": text}}


def _turn(message: Message, at: str) -> dict[str, Any]:
    used = {"role", "content", "weight", "tool_calls", "tool_call_id"}
    more = message.model_dump(exclude_none=True, exclude=used)
    if more:
        raise RowError(f"'sharegpt' has no place for '{next(iter(more))}' of {at}")
    if message.role not in _NAMES:
        raise RowError(f"'sharegpt' has no role '{message.role}' ({at})")
    weight = {} if message.weight is None else {"weight": message.weight}
    if not message.tool_calls:
        return {"from": _NAMES[message.role], "value": message.content or ""} | weight
    if message.content is not None:
        raise RowError(f"'sharegpt' has no place for a text beside the calls of {at}")
    calls = [_bare(call, at) for call in message.tool_calls]
    value = json.dumps(calls if len(calls) > 1 else calls[0], ensure_ascii=False)
    return {"from": CALL, "value": value} | weight


def _bare(call: dict[str, Any], at: str) -> dict[str, Any]:
    """A call by name and arguments; arguments stay text where an object would not give the same text again."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str) or "name" not in function:
        raise RowError(f"'sharegpt' has no place for the call of {at}: it wants a name and arguments as JSON text")
    text = function["arguments"]
    try:
        arguments = json.loads(text)
        same = isinstance(arguments, dict) and json.dumps(arguments, ensure_ascii=False) == text
    except (ValueError, RecursionError):
        same = False
    return {"name": function["name"], "arguments": arguments if same else text}
