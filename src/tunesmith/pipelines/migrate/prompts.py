"""What both models are asked, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core import fingerprints
from ...core.errors import ContentError, MissingError
from ...core.messages import Example, Message, Preference, Prompt
from ...data.load import load


@dataclass(frozen=True)
class Asked:
    """A conversation that waits for an answer."""

    messages: tuple[Message, ...]
    source: str
    """`file:line`."""
    tools: tuple[dict[str, Any], ...] | None = None
    reference: str | None = None
    """The right answer, where the row has one; tool calls as JSON."""
    calls: bool = False
    """Whether the right answer is a call of tools."""

    def wire(self) -> dict[str, Any]:
        """Messages and tools as endpoints take them: thinking and weights are ours alone."""
        hidden = {"weight", "reasoning_content"}
        messages = [m.model_dump(mode="json", exclude_none=True, exclude=hidden) for m in self.messages]
        return {"messages": messages} | ({"tools": list(self.tools)} if self.tools else {})

    def key(self, model: str, max_tokens: int) -> str:
        """Names the answer that a model gives to this."""
        return fingerprints.of_object([model, max_tokens, self.wire()])


def read_prompts(path: Path, most: int, *, named: str | None = None) -> list[Asked]:
    """The first `most` rows of a file as prompts; `named` stands for the file in their sources.

    Rows of any format with a question in it (the answer becomes the reference), or a .txt file with a prompt a line.
    MissingError, ContentError.
    """
    if not path.is_file():
        raise MissingError(f"no such file: {path}", mend="name a file of prompts: JSON Lines, or .txt with one a line")
    name = named or path.name
    if path.suffix == ".txt":
        lines = [(n, text.strip()) for n, text in enumerate(_text(path).splitlines(), 1) if text.strip()]
        asked = [Asked((Message(role="user", content=text),), f"{name}:{n}") for n, text in lines]
    else:
        loaded = load(path, limit=most)
        asked = [_asked(row, f"{name}:{row.origin.rpartition(':')[2]}") for row in loaded.records]
    if not asked:
        raise ContentError(f"{path} holds no prompt", mend="give rows of chat messages, or a .txt with a prompt a line")
    return asked[:most]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ContentError(f"{path} is not in UTF-8", why=str(error), mend="save it as UTF-8") from error


def _asked(row: object, source: str) -> Asked:
    if isinstance(row, Example):
        turn = row.reply()[0]
        return Asked(row.prompt(), source, row.tools, turn.calls() or row.answer(), bool(turn.tool_calls))
    if isinstance(row, Preference):
        better = row.chosen[0]
        return Asked(row.prompt, source, row.tools, better.calls() or better.content, bool(better.tool_calls))
    if isinstance(row, Prompt):
        return Asked(row.messages, source, row.tools)
    raise ContentError(f"{source} asks nothing", mend="give rows of chat messages, or prompts alone")


def distinct(prompts: Sequence[Asked]) -> list[Asked]:
    """Each question once: asked twice it would be billed twice and counted twice."""
    found: dict[str, Asked] = {}
    for one in prompts:
        found.setdefault(fingerprints.of_object(one.wire()), one)
    return list(found.values())
