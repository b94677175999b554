"""Text that is spelled like a special token stays text.

Whoever types <|im_end|> must not end a turn. A tokenizer makes such a spelling the special token wherever it stands
in one piece; split over two pieces it is plain text in every tokenizer, and no character is added or lost. (Options
such as split_special_tokens do not suffice: a Unigram vocabulary holds </s> as a word of its own.) So a mark is set
behind the first character of each spelling before the template is rendered; where the marks come out, the text is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from typing import Any

from ..core.messages import Message

THINKING = ("<think>", "</think>")
"""What parts thinking and answer in an assistant's content; special tokens or not, that is no slip."""
Tools = Sequence[dict[str, Any]] | None


@dataclass(frozen=True)
class Guarded:
    """A conversation in which no content spells a special token."""

    messages: Sequence[Message]
    tools: Tools
    mark: str = ""
    """What stands within each spelling; "" where there is none."""

    def unmark(self, text: str) -> tuple[str, list[int]]:
        """A text without the marks, and where in it they were."""
        if not self.mark:
            return text, []
        first, *others = text.split(self.mark)
        plain, places = first, []
        for part in others:
            places.append(len(plain))
            plain += part
        return plain, places


class Escape:
    """Finds and guards spellings of one tokenizer's special tokens in contents, thinking, calls and tools.

    A token of one character cannot be split, and is left.
    """

    def __init__(self, tokens: Iterable[str]):
        self.tokens = tuple(tokens)
        spellings = {token for token in self.tokens if len(token) > 1}
        self._any, self._first = _patterns(spellings)
        self._said, self._first_said = _patterns(spellings - {*THINKING})

    def spelled(self, messages: Sequence[Message], tools: Tools) -> set[str]:
        """The special tokens that a conversation spells out."""
        found: set[str] = set()
        if not tools and all(map(self._harmless, messages)):
            return found
        for message in messages:
            pattern = self._said if message.role == "assistant" else self._any
            for text in _strings(_contents(message)):
                found.update(pattern.findall(text))
        for text in _strings(tools):
            found.update(self._any.findall(text))
        return found

    def guard(self, messages: Sequence[Message], tools: Tools) -> Guarded:
        """The conversation itself where nothing is spelled so, as nearly always."""
        if not self.spelled(messages, tools):
            return Guarded(messages, tools)
        texts = [*_strings([_contents(message) for message in messages]), *_strings(tools)]
        marks = (f"cutHere{number}x" for number in count())
        mark = next(mark for mark in marks if not any(mark in text for text in texts))
        guarded = [self._guarded(message, mark) for message in messages]
        return Guarded(guarded, _changed(tools, self._first, mark), mark)

    def _harmless(self, message: Message) -> bool:
        """Whether a quick look suffices: a message of content alone, as most are."""
        if message.tool_calls or message.reasoning_content or message.name or message.tool_call_id:
            return False
        pattern = self._said if message.role == "assistant" else self._any
        return not pattern.search(message.content or "")

    def _guarded(self, message: Message, mark: str) -> Message:
        first = self._first_said if message.role == "assistant" else self._first
        update = _changed(_contents(message), first, mark)
        if message.tool_calls:
            update["tool_calls"] = tuple(update["tool_calls"])
        return message.model_copy(update=update)


def _patterns(tokens: set[str]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Any of the tokens; and the first character of each, tokens that overlap included."""
    groups = (
        re.escape(start) + "(?:" + "|".join(re.escape(token[2:]) for token in group) + ")"
        for start, group in groupby(sorted(tokens), key=lambda token: token[:2])
    )
    any_of = "|".join(groups) or "(?!)"
    return re.compile(any_of), re.compile(f"(?={any_of})(.)", re.DOTALL)


def _contents(message: Message) -> dict[str, Any]:
    """What of a message templates show, tool arguments as objects: JSON may spell < as \\u003c."""
    form = message.template_form() if message.tool_calls else {"content": message.content}
    more = {"reasoning_content": message.reasoning_content, "name": message.name, "tool_call_id": message.tool_call_id}
    return {key: value for key, value in (form | more).items() if value is not None and key != "role"}


def _strings(value: Any) -> Iterator[str]:
    """Every text in nested lists and dicts, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _changed(value: Any, first: re.Pattern[str], mark: str) -> Any:
    """The same nested lists and dicts with the mark behind the first character of each spelling."""
    if isinstance(value, str):
        return first.sub(lambda match: match.group(1) + mark, value)
    if isinstance(value, dict):
        return {_changed(key, first, mark): _changed(item, first, mark) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(item, first, mark) for item in value]
    return value
