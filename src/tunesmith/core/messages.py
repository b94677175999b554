"""Messages and examples: the form in which all supervised data travels once it is read."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(BaseModel):
    """One turn of a conversation, in the field's common wire form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    def template_form(self) -> dict[str, Any]:
        """The dict that chat templates read: no weight, no empty keys, always a content, arguments as objects."""
        form = self.model_dump(exclude_none=True, exclude={"weight"})
        form.setdefault("content", "")
        if self.tool_calls:
            form["tool_calls"] = [_with_object(call) for call in form["tool_calls"]]
        return form


class Example(BaseModel):
    """One row of supervised data: a conversation with at least one assistant turn that carries loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    """What else the row held; never shown to the model, used for slices and reports."""
    origin: str = ""
    """`file:line` the row was read from."""

    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last assistant turn: what the model is given at evaluation."""
        return self.messages[: self._last_assistant()]

    def answer(self) -> str:
        """The last assistant turn's text: what the model is expected to say, its thinking left out."""
        return spoken(self.messages[self._last_assistant()].content or "")

    def prompt_key(self) -> str:
        """Equal for two rows exactly when their prompts, tool calls included, are equal up to case and white space."""
        return "\x1e".join(_turn_key(message) for message in self.prompt())

    def _last_assistant(self) -> int:
        return max(i for i, m in enumerate(self.messages) if m.role == "assistant")


def spoken(text: str) -> str:
    """An answer without the thinking in front of it. Its opening mark may stand in the prompt, so it may be absent."""
    _, mark, behind = text.partition("</think>")
    return behind.lstrip() if mark else text


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


def _turn_key(message: Message) -> str:
    text = " ".join((message.content or "").casefold().split())
    calls = json.dumps(message.tool_calls, sort_keys=True) if message.tool_calls else ""
    return f"{message.role}\x1f{text}\x1f{calls}"
