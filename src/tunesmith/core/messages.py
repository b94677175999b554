"""Messages and rows: the forms in which all data travels once it is read. Each kind of row is for other methods."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "developer", "user", "assistant", "tool"]
Kind = Literal["supervised", "preference", "labelled", "prompt", "text"]
"""What a row can teach: an answer, the better of two, good or bad, what graders reward, or text itself."""

_PLAIN = {"role", "content", "weight"}


class Message(BaseModel):
    """One turn of a conversation, in the field's common wire form."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    role: Role
    content: str | None = None
    reasoning_content: str | None = None
    """The thinking before the answer, where it is kept apart from the content; chat templates place it."""
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    tool_call_id: str | None = None
    weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Weight of this turn in the loss; only on assistant turns. None means 1."""

    @property
    def learned(self) -> bool:
        """Whether this is an assistant turn that carries loss."""
        return self.role == "assistant" and self.weight != 0

    @property
    def thinking(self) -> str:
        """The thinking of this turn, kept apart or before a `</think>` in the content; "" where there is none."""
        if self.reasoning_content is not None:
            return self.reasoning_content.strip()
        head, mark, _ = (self.content or "").partition("</think>")
        return head.rpartition("<think>")[2].strip() if mark else ""

    def calls(self) -> str:
        """The tool calls as text, equal for equal ones: without their random ids, arguments read. "" without any."""
        if not self.tool_calls:
            return ""
        return json.dumps([_with_object(_without_id(call)) for call in self.tool_calls], sort_keys=True)

    def template_form(self) -> dict[str, Any]:
        """The dict that chat templates read: no weight, no empty keys, always a content, arguments as objects."""
        if self.content is not None and self.model_fields_set <= _PLAIN:
            return {"role": self.role, "content": self.content}
        form = self.model_dump(exclude_none=True, exclude={"weight"})
        form.setdefault("content", "")
        if self.tool_calls:
            form["tool_calls"] = [_with_object(call) for call in form["tool_calls"]]
        return form


class Example(BaseModel):
    """One row of supervised data: a conversation with at least one assistant turn that carries loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    kind: ClassVar[Kind] = "supervised"

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    """What else the row held; never shown to the model, used for slices and reports."""
    origin: str = ""
    """`file:line` the row was read from."""

    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last assistant turn: what the model is given at evaluation."""
        return self.messages[: self._last_assistant()]

    def reply(self) -> tuple[Message, ...]:
        """The last assistant turn and what may follow it: all that is behind the prompt."""
        return self.messages[self._last_assistant() :]

    def answer(self) -> str:
        """The last assistant turn's text: what the model is expected to say, its thinking left out."""
        return spoken(self.messages[self._last_assistant()].content or "")

    def prompt_key(self) -> str:
        """Equal for two rows exactly when their prompts, tool calls included, are equal up to case and white space."""
        return prompt_key(self.prompt())

    def _last_assistant(self) -> int:
        last = len(self.messages) - 1
        while self.messages[last].role != "assistant":
            last -= 1
        return last


class Preference(BaseModel):
    """One prompt with a better and a worse answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    kind: ClassVar[Kind] = "preference"

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    """The better answer: an assistant turn, and what follows where the answers are conversations."""
    rejected: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    origin: str = ""


class Labelled(BaseModel):
    """One answer and whether it is good (KTO)."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    kind: ClassVar[Kind] = "labelled"

    prompt: tuple[Message, ...]
    answer: Message
    label: bool
    tools: tuple[dict[str, Any], ...] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    origin: str = ""


class Prompt(BaseModel):
    """A conversation that waits for an answer, and what graders need to judge one (reinforcement)."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    kind: ClassVar[Kind] = "prompt"

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    fields: dict[str, Any] = Field(default_factory=dict)
    """Every other key of the row, under its own name: what a grader sees as the item."""
    origin: str = ""


class Text(BaseModel):
    """A document to be continued (pre-training): plain text, or a conversation whose every turn is text like any."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    kind: ClassVar[Kind] = "text"

    text: str = ""
    """"" where the document is a conversation."""
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    origin: str = ""


Row = Example | Preference | Labelled | Prompt | Text


def spoken(text: str) -> str:
    """An answer without the thinking in front of it. Its opening mark may stand in the prompt, so it may be absent."""
    _, mark, behind = text.partition("</think>")
    return behind.lstrip() if mark else text


def squeezed(text: str) -> str:
    """A text with one space in the place of all white space between two words, and none at its ends."""
    if text.isascii() and text.isprintable() and "  " not in text:  # most texts: nothing but single spaces
        return text.strip()
    return " ".join(text.split())


def is_json_object(text: str) -> bool:
    """Whether an answer is one JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _without_id(call: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if key != "id"}


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call with its arguments as an object: the wire form has them as JSON text, which templates quote again."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return call | {"function": function | {"arguments": arguments}} if isinstance(arguments, dict) else call


def prompt_key(messages: tuple[Message, ...]) -> str:
    """Equal for two prompts exactly when they are equal, tool calls included, up to case and white space."""
    return "\x1e".join(_turn_key(message) for message in messages)


def _turn_key(message: Message) -> str:
    text = squeezed((message.content or "").casefold())
    calls = json.dumps(message.tool_calls, sort_keys=True) if message.tool_calls else ""
    return f"{message.role}\x1f{text}\x1f{calls}"
