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
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    tool_call_id: str | None = None
    weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Weight of this turn in the loss; only on assistant turns. None means 1."""

    def template_form(self) -> dict[str, Any]:
        """The dict that chat templates read: no weight, no empty keys, always a content."""
        form = self.model_dump(exclude_none=True, exclude={"weight"})
        form.setdefault("content", "")
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
        """The last assistant turn's text: what the model is expected to say."""
        return self.messages[self._last_assistant()].content or ""

    def prompt_key(self) -> str:
        """Equal for two rows exactly when their prompts, tool calls included, are equal up to case and white space."""
        return "\x1e".join(_turn_key(message) for message in self.prompt())

    def _last_assistant(self) -> int:
        return max(i for i, m in enumerate(self.messages) if m.role == "assistant")


def _turn_key(message: Message) -> str:
    text = " ".join((message.content or "").casefold().split())
    calls = json.dumps(message.tool_calls, sort_keys=True) if message.tool_calls else ""
    return f"{message.role}\x1f{text}\x1f{calls}"
