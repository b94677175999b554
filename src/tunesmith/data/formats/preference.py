"""`{"prompt", "chosen", "rejected"}` in the shapes that TRL's and LLaMA-Factory's users have.

The prompt is a text, messages, ShareGPT turns, an Alpaca instruction, or what both answers begin with.
"""

from __future__ import annotations

import re
from typing import Any

from ...core.messages import Kind, Message, Preference, Row
from .base import RowError, extras, of_kind, rest, text_field
from .conversation import Tools, as_json, filled, messages_of, tools_key
from .instruction import KEYS, asked
from .sharegpt import conversation, sharegpt_tools, turns_of

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_PROMPTS = ("prompt", "conversations", "instruction", "messages", "question")


class PreferencePairs:
    """A better and a worse answer to one prompt."""

    name = "preference"
    kind: Kind = "preference"

    def matches(self, row: dict[str, Any]) -> bool:
        """Both answers decide."""
        return "chosen" in row and "rejected" in row

    def parse(self, row: dict[str, Any]) -> Preference:
        """Answers without the prompt; where the row has no prompt, what the two begin with alike is it."""
        chosen, rejected = answer_of(row["chosen"], "chosen"), answer_of(row["rejected"], "rejected")
        used = {"chosen", "rejected", "tools"}
        key = next((key for key in _PROMPTS if row.get(key) is not None), None)
        if key is None:
            prompt, chosen, rejected = _implicit(chosen, rejected)
        else:
            prompt = prompt_of(row, key)
            used |= KEYS - {"output"} if key == "instruction" else {key, "system"}
        return pair(prompt, chosen, rejected, sharegpt_tools(row.get("tools")), rest(row, used))

    def export(self, row: Row) -> dict[str, Any]:
        """Every pair fits, as messages."""
        mine = of_kind(row, Preference, self.name)
        made = {key: as_json(getattr(mine, key)) for key in ("prompt", "chosen", "rejected")}
        return made | tools_key(mine.tools) | extras(mine.metadata)


class OpenAIPreference:
    """`{"input": {"messages", "tools"}, "preferred_output": [...], "non_preferred_output": [...]}`."""

    name = "openai_preference"
    kind: Kind = "preference"

    def matches(self, row: dict[str, Any]) -> bool:
        """Both outputs decide."""
        return "preferred_output" in row and "non_preferred_output" in row

    def parse(self, row: dict[str, Any]) -> Preference:
        """The input's messages and the two outputs."""
        given = row.get("input")
        if not isinstance(given, dict):
            raise RowError(f"'input' must be an object with 'messages', not {type(given).__name__}")
        better, worse = "preferred_output", "non_preferred_output"
        beside = {key: value for key, value in given.items() if key not in ("messages", "tools")}
        metadata = rest(row, {"input", better, worse})
        if both := [key for key in beside if key in metadata and repr(metadata[key]) != repr(beside[key])]:
            raise RowError(f"'{both[0]}' stands in 'input' and in the row, with another value")
        metadata |= beside
        return pair(
            messages_of(given.get("messages"), "input.messages"), messages_of(row[better], better),
            messages_of(row[worse], worse), sharegpt_tools(given.get("tools")), metadata,
        )  # fmt: skip

    def export(self, row: Row) -> dict[str, Any]:
        """Every pair fits."""
        mine = of_kind(row, Preference, self.name)
        given = {"messages": as_json(mine.prompt)} | tools_key(mine.tools)
        outputs = {"preferred_output": as_json(mine.chosen), "non_preferred_output": as_json(mine.rejected)}
        return {"input": given} | outputs | extras(mine.metadata)


def pair(
    prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...], tools: Tools | None,
    metadata: dict[str, Any],
) -> Preference:  # fmt: skip
    """The pair, unless there is no prompt, an answer is none, or the two are the same."""
    if not any(m.role in ("user", "tool") for m in prompt):
        raise RowError("there is no prompt: no user turn stands before the answers")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or answer[0].role != "assistant":
            raise RowError(f"the {name} answer does not begin with an assistant turn")
    if chosen == rejected:
        raise RowError("the chosen and the rejected answer are the same: there is nothing to prefer")
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected, tools=tools, metadata=metadata)


def prompt_of(row: dict[str, Any], key: str) -> tuple[Message, ...]:
    """The prompt under `key`, with the row's system text before it."""
    if key == "instruction":
        return asked(row)
    if key == "conversations":
        return conversation(row)
    if isinstance(row[key], list):
        turns = turns_in(row[key], key)
    else:
        turns = (Message(role="user", content=text_field(row, key)),)
    system = text_field(row, "system", required=False)
    return (Message(role="system", content=system), *turns) if system else turns


def answer_of(value: object, key: str) -> tuple[Message, ...]:
    """An answer as text, as one message, or as a list of messages, in OpenAI's or ShareGPT's form."""
    if isinstance(value, str):
        return (filled(Message(role="assistant", content=value), f"'{key}'"),)
    return turns_in([value] if isinstance(value, dict) else value, key)


def turns_in(raw: object, key: str) -> tuple[Message, ...]:
    """A list of turns by `from` and `value`, or by `role` and `content`."""
    if isinstance(raw, list) and raw and isinstance(raw[0], dict) and "from" in raw[0]:
        return turns_of(raw, key)
    return messages_of(raw, key)


def _implicit(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """(prompt, chosen, rejected) of two whole conversations: what they begin with alike, and the rest of each."""
    chosen, rejected = _dialogue(chosen), _dialogue(rejected)
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _dialogue(answer: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns of a text that holds `\\n\\nHuman:` and `\\n\\nAssistant:`; anything else as it is."""
    text = answer[0].content or ""
    if len(answer) > 1 or not _SPEAKER.match(text):
        return answer
    _, *parts = _SPEAKER.split(text)
    said = zip(parts[0::2], parts[1::2], strict=True)
    return tuple(
        filled(Message(role="user" if who == "Human" else "assistant", content=words.strip()), f"turn {i + 1}")
        for i, (who, words) in enumerate(said)
    )
