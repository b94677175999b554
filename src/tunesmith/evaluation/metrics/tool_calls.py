"""Tool calls: the right functions, with the right arguments."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...core.messages import Example
from .base import same

Call = tuple[str, Any]
"""Name and arguments."""
_DECODER = json.JSONDecoder()
_FUNCTION = re.compile(r"<function=([\w.-]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([\w.-]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


class ToolName:
    """1 when the answer calls the functions that the reference calls, each as often, in whatever order.

    A row that calls none is right when the answer calls none.
    """

    name = "tool_name"
    uses_reference = True

    def score(self, prediction: str, reference: str) -> float:
        """1 or 0, of two texts that hold calls."""
        return self._score(calls_in(prediction), calls_in(reference))

    def scores(self, predictions: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """1 or 0 of each row; its calls are those of its last assistant turn."""
        return [self._score(calls_in(text), wanted(row)) for text, row in zip(predictions, rows, strict=True)]

    def _score(self, said: Sequence[Call], right: Sequence[Call]) -> float:
        return float(Counter(name for name, _ in said) == Counter(name for name, _ in right))


class ToolCall(ToolName):
    """1 when the answer makes the calls that the reference makes, arguments compared as JSON values."""

    name = "tool_call"

    def _score(self, said: Sequence[Call], right: Sequence[Call]) -> float:
        left = list(said)
        for name, arguments in right:
            place = next((i for i, call in enumerate(left) if call[0] == name and same(call[1], arguments)), None)
            if place is None:
                return 0.0
            del left[place]
        return float(not left)


def wanted(row: Example) -> list[Call]:
    """The calls of a row's last assistant turn: those that it carries apart, or those in its text."""
    turn = row.reply()[0]
    if turn.tool_calls is None:
        return calls_in(row.answer())
    return [call for value in turn.tool_calls for call in _calls(value)]


def calls_in(text: str) -> list[Call]:
    """The calls in a text as models write them: JSON objects with a name and arguments (or parameters), alone, in a
    list, or between marks (Hermes, Qwen, Mistral, Llama); and `<function=name>` with JSON or `<parameter=...>` inside.
    """
    tagged = [_tagged(name, inside) for name, inside in _FUNCTION.findall(text)]
    return tagged or [call for value in _json_values(text) for call in _calls(value)]


def _tagged(name: str, inside: str) -> Call:
    parameters = _PARAMETER.findall(inside)
    return (
        (name, {key: _read(value) for key, value in parameters})
        if parameters
        else (name, _read(inside.strip() or "{}"))
    )


def _json_values(text: str) -> Iterator[Any]:
    """Objects and lists in a text, the outermost ones."""
    at = 0
    while match := re.compile(r"[\[{]").search(text, at):
        try:
            value, at = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            at = match.end()
            continue
        yield value


def _calls(value: Any) -> Iterator[Call]:
    """The calls that a JSON value is."""
    if isinstance(value, list):
        for item in value:
            yield from _calls(item)
    elif isinstance(value, Mapping):
        call = value["function"] if isinstance(value.get("function"), Mapping) else value
        key = next((key for key in ("arguments", "parameters") if key in call), None)
        if isinstance(call.get("name"), str) and key:
            arguments = call[key]
            yield call["name"], _read(arguments) if isinstance(arguments, str) else arguments


def _read(text: str) -> Any:
    """Arguments written as JSON text, or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
