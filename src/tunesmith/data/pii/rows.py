"""Examples instead of texts: which parts of a row are read, and how a masked row comes together again.

Read are what the model is shown: contents, thinking, tool calls and tool descriptions. Metadata is not shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...core.messages import Example, Message
from .hits import Hit
from .mask import Find, Known, mask
from .scan import find as by_shape
from .sieve import find_all

Change = Callable[[str], str]


def texts(example: Example) -> list[str]:
    """All texts of a row that the model is shown, in a fixed order."""
    seen: list[str] = []

    def keep(text: str) -> str:
        seen.append(text)
        return text

    _changed(example, keep)
    return seen


def find_in_rows(
    examples: Sequence[Example], find: Find | None = None
) -> Iterator[tuple[int, list[tuple[str, Sequence[Hit]]]]]:
    """(index, texts with their finds) of every row in which something is found, in order; by shape or by `find`."""
    pieces = [(index, text) for index, example in enumerate(examples) for text in texts(example)]
    current, found = -1, list[tuple[str, Sequence[Hit]]]()
    for place, hits in find_all(text for _, text in pieces) if find is None else _each(pieces, find):
        index, text = pieces[place]
        if index != current and found:
            yield current, found
            found = []
        current = index
        found.append((text, hits))
    if found:
        yield current, found


def _each(pieces: Sequence[tuple[int, str]], find: Find) -> Iterator[tuple[int, Sequence[Hit]]]:
    return ((place, hits) for place, (_, text) in enumerate(pieces) if (hits := find(text)))


def mask_row(example: Example, known: Known | None = None, find: Find = by_shape) -> tuple[Example, Known]:
    """A row with placeholders, and what is then known of its subject."""
    masked = mask(texts(example), known, find)
    ready = iter(masked.texts)
    return _changed(example, lambda _: next(ready)), masked.known


def _changed(example: Example, change: Change) -> Example:
    """The row with each text changed; the one place that knows where texts are and in which order."""
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
