"""Tool calls in what models write. Loads no torch.

Each family of models writes calls in its own form, which is the form that its chat template shows. A call of a tool
that was not offered, or one that is no JSON, stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.messages import Message
from ..data.template import TemplateError, render
from .ask import ToolCall
from .spell import held_back

Body = list[tuple[str, Any]]
"""(name, arguments) of each call."""


@dataclass(frozen=True)
class Style:
    """How a family writes calls."""

    name: str
    open: str
    """What a call begins with; "" where the whole answer is calls or none of it is."""
    close: str
    """What ends one; "" where calls go to the end of the answer."""
    read: Callable[[str], Body]
    """What stands between, taken apart; ValueError where it is no call."""
    arguments: str = "arguments"
    """The key that arguments stand under."""


def _json_calls(body: str, key: str) -> Body:
    """One object, or a list of them."""
    found = json.loads(body)
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(c, dict) and isinstance(c.get("name"), str) and key in c for c in calls):
        raise ValueError("no call")
    return [(call["name"], call[key]) for call in calls]


def _mistral(body: str) -> Body:
    """A list of objects; or, in newer models, name[ARGS]{...} or name{...}, one behind the other."""
    text = body.strip()
    if text.startswith("["):
        return _json_calls(text, "arguments")
    calls: Body = []
    for part in filter(None, text.split("[TOOL_CALLS]")):
        name, brace, arguments = part.partition("{")
        calls.append((name.removesuffix("[ARGS]").partition("[CALL_ID]")[0].strip(), json.loads(brace + arguments)))
    if not calls:
        raise ValueError("no call")
    return calls


def _llama(body: str) -> Body:
    """Objects with `parameters`, parted by semicolons."""
    text = body.strip().removeprefix(PYTHON_TAG)
    return [call for part in re.split(r"(?<=\})\s*;\s*(?=\{)", text) for call in _json_calls(part, "parameters")]


PYTHON_TAG = "<|python_tag|>"
HERMES = Style("hermes", "<tool_call>", "</tool_call>", lambda body: _json_calls(body, "arguments"))
MISTRAL = Style("mistral", "[TOOL_CALLS]", "", _mistral)
LLAMA = Style("llama", "", "", _llama, arguments="parameters")
MARKS = (HERMES.open, HERMES.close, MISTRAL.open, "[ARGS]", "[CALL_ID]", PYTHON_TAG)
"""What calls are told by; special tokens in some vocabularies."""


def style_of(tokenizer: Any) -> Style:
    """The form that the chat template shows a call in; Hermes' where it shows none."""
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    tool = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}
    said = [Message(role="user", content="a"), Message(role="assistant", tool_calls=(call,))]
    try:
        answer = render(tokenizer, said, [tool]).removeprefix(render(tokenizer, said[:1], [tool], prompt=True))
    except TemplateError:
        return HERMES
    if MISTRAL.open in answer:
        return MISTRAL
    return LLAMA if HERMES.open not in answer and '"parameters"' in answer else HERMES


class CallReader(Protocol):
    """Takes calls out of a text that comes in pieces."""

    def add(self, text: str) -> tuple[str, list[ToolCall]]:
        """(text that is no call, calls that are complete now)."""

    def rest(self) -> tuple[str, list[ToolCall]]:
        """The same of what was held back, at the end."""


def reader(style: Style, names: Collection[str]) -> CallReader:
    """For a style, and the tools that may be called."""
    return Marked(style, names) if style.open else Whole(style, names)


class Whole:
    """For answers that are calls as a whole, or not at all."""

    def __init__(self, style: Style, names: Collection[str]):
        self._style, self._names = style, names
        self._held = ""
        self._text = False

    def add(self, text: str) -> tuple[str, list[ToolCall]]:
        """Text passes as soon as it cannot be a call."""
        self._held += text
        begin = self._held.lstrip()
        self._text = self._text or bool(
            begin and begin[0] != "{" and not PYTHON_TAG.startswith(begin[: len(PYTHON_TAG)])
        )
        if not self._text:
            return "", []
        shown, self._held = self._held, ""
        return shown, []

    def rest(self) -> tuple[str, list[ToolCall]]:
        """All of it, as calls or as text."""
        calls = _made(self._style, self._held, self._names)
        return ("" if calls else self._held), calls


class Marked:
    """For calls that begin with a mark, with text before them."""

    def __init__(self, style: Style, names: Collection[str]):
        self._style, self._names = style, names
        self._held = ""
        self._inside = self._called = False

    def add(self, text: str) -> tuple[str, list[ToolCall]]:
        """A call is complete with its closing mark."""
        self._held += text
        shown, calls = "", list[ToolCall]()
        close = self._style.close
        while True:
            if not self._inside:
                shown += self._before()
            if not self._inside or not close or close not in self._held:
                return shown, calls
            body, _, self._held = self._held.partition(close)
            self._inside = False
            text, made = self._judged(body, close)
            shown, calls = shown + text, calls + made

    def rest(self) -> tuple[str, list[ToolCall]]:
        """A call that only lacks its closing mark counts."""
        held, self._held = self._held, ""
        if self._inside:
            return self._judged(held, "")
        return ("" if self._called and not held.strip() else held), []

    def _before(self) -> str:
        """Text up to the next call. White space before a call belongs to the form, not to the answer."""
        text, found, behind = self._held.partition(self._style.open)
        if found:
            self._inside, self._held = True, behind
            return text.rstrip()
        shown = text[: len(text) - held_back(text, self._style.open)].rstrip()
        self._held = text[len(shown) :]
        return shown

    def _judged(self, body: str, close: str) -> tuple[str, list[ToolCall]]:
        calls = _made(self._style, body, self._names)
        self._called = self._called or bool(calls)
        return ("" if calls else f"{self._style.open}{body}{close}"), calls


def _made(style: Style, body: str, names: Collection[str]) -> list[ToolCall]:
    """The calls of a body; none where it holds anything else."""
    try:
        calls = style.read(body)
    except ValueError:
        return []
    return [ToolCall(name, _text(arguments)) for name, arguments in calls] if {n for n, _ in calls} <= {*names} else []


def _text(arguments: Any) -> str:
    """As JSON text, which some models have written already."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
