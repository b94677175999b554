"""Examples instead of texts: which parts of a row are read, and how a masked row comes together again.

Read are what the model is shown: contents, thinking, tool calls and tool descriptions. Metadata is not shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from ...core.messages import Example, Message
from .hits import Hit
from .mask import Find, Known, mask
from .scan import find as by_shape
from .sieve import find_all

Change = Callable[[str], str]
Found = tuple[int, list[tuple[str, Sequence[Hit]]]]
"""The place of a row among others, and its texts with finds."""


def texts(example: Example) -> list[str]:
    """All texts of a row that the model is shown, in a fixed order."""
    seen: list[str] = []

    def keep(text: str) -> str:
        seen.append(text)
        return text

    for message in example.messages:
        if message.tool_calls:
            _message(message, keep)
        else:  # most rows: a copy of every message would cost more than all that is looked for
            seen += [text for text in (message.content, message.reasoning_content) if text]
    if example.tools:
        _strings(example.tools, keep)
    return seen


def find_in_rows(examples: Iterable[Example], find: Find | None = None) -> Iterator[Found]:
    """Every row in which something is found, in order; by shape or by `find`."""
    pieces = ((index, text) for index, example in enumerate(examples) for text in texts(example))
    finds = find_all(pieces) if find is None else _each(pieces, find)
    for index, group in groupby(finds, key=lambda found: found[0]):
        yield index, [(text, hits) for _, text, hits in group]


def _each(pieces: Iterable[tuple[int, str]], find: Find) -> Iterator[tuple[int, str, Sequence[Hit]]]:
    return ((index, text, hits) for index, text in pieces if (hits := find(text)))


def mask_row(example: Example, known: Known | None = None, find: Find = by_shape) -> tuple[Example, Known]:
    """A row with placeholders, and what is then known of its subject."""
    masked = mask(texts(example), known, find)
    ready = iter(masked.texts)
    return changed(example, lambda _: next(ready)), masked.known


def changed(example: Example, change: Change) -> Example:
    """The row with each text changed that the model is shown; the one place that knows where they are, in order."""
    messages = tuple(_message(message, change) for message in example.messages)
    tools = _strings(example.tools, change) if example.tools else example.tools
    return example.model_copy(update={"messages": messages, "tools": tools})


def _message(message: Message, change: Change) -> Message:
    update: dict[str, Any] = {}
    if message.content:
        update["content"] = change(message.content)
    if message.reasoning_content:
        update["reasoning_content"] = change(message.reasoning_content)
    if message.tool_calls:
        update["tool_calls"] = tuple(_call(call, change) for call in message.tool_calls)
    return message.model_copy(update=update)


def _call(call: dict[str, Any], change: Change) -> dict[str, Any]:
    """A tool call. Arguments that are JSON text stay JSON: its leaves are changed, not the text."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return dict(_strings(call, change))
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return dict(_strings(call, change))
    changed = _strings(arguments, change)
    same = changed == arguments
    written = function["arguments"] if same else json.dumps(changed, ensure_ascii=False)
    return call | {"function": function | {"arguments": written}}


def _strings(value: Any, change: Change, name: str = "") -> Any:
    """The value with every string in it changed. A long number under a name is read as `name: number`."""
    if isinstance(value, str):
        return change(value) if not name else _under(name, value, change)
    if isinstance(value, dict):
        return {key: _strings(item, change, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_strings(item, change, name) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**6 and name:
        changed = _under(name, str(value), change)
        return value if changed == str(value) else changed
    return value


def _under(name: str, value: str, change: Change) -> str:
    """The value as it reads behind its name: `phone: 5551234567` is announced, as a bare number is not."""
    lead = f"{name}: "
    changed = change(lead + value)
    return changed.removeprefix(lead) if changed.startswith(lead) else changed.partition(": ")[2]
