"""`{"prompt": "...", "completion": "..."}`."""

from __future__ import annotations

from typing import Any

from ...core.messages import Message
from .base import Parsed, rest, text_field


class PromptCompletion:
    """A prompt and the text that should follow it, as one user and one assistant turn."""

    name = "prompt_completion"

    def matches(self, row: dict[str, Any]) -> bool:
        """Both keys decide."""
        return "prompt" in row and "completion" in row

    def parse(self, row: dict[str, Any]) -> Parsed:
        """Surrounding white space is dropped: chat templates bring their own."""
        turns = (
            Message(role="user", content=text_field(row, "prompt").strip()),
            Message(role="assistant", content=text_field(row, "completion").strip()),
        )
        return Parsed(turns, None, rest(row, {"prompt", "completion"}))
