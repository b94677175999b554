"""The row formats, in the order in which a row is tried against them.

A new format is its own file, one entry in the table, and a test.
"""

from __future__ import annotations

from ...core.errors import UsageError, nearest
from .base import Format, RowError, exported
from .chat import Chat
from .instruction import Instruction
from .kto import Kto
from .preference import OpenAIPreference, PreferencePairs
from .prompt_completion import PromptCompletion
from .question_answer import QuestionAnswer
from .reinforcement import Reinforcement
from .sharegpt import ShareGPT
from .text import Text
from .transcript import Transcript


def table(assistant: str | None = None) -> tuple[Format, ...]:
    """Every format; `assistant` is who answers in a transcript. Those that ask for more keys stand first."""
    return (
        OpenAIPreference(), PreferencePairs(), Kto(), Reinforcement(), Chat(), PromptCompletion(), Instruction(),
        ShareGPT(), QuestionAnswer(), Transcript(assistant), Text(),
    )  # fmt: skip


FORMATS = table()

__all__ = ["FORMATS", "Format", "RowError", "detect", "exported", "named", "table"]


def named(name: str, formats: tuple[Format, ...] = FORMATS) -> Format:
    """The format called `name`; a UsageError that lists the known ones otherwise."""
    for known in formats:
        if known.name == name:
            return known
    raise UsageError(f"unknown data format '{name}'", mend=nearest(name, [f.name for f in formats]))


def detect(row: object, formats: tuple[Format, ...] = FORMATS) -> Format | None:
    """The first format that recognises the row by its keys, or None."""
    if not isinstance(row, dict):
        return None
    return next((known for known in formats if known.matches(row)), None)
