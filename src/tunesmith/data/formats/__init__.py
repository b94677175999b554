"""The row formats, in the order in which a row is tried against them.

A new format is its own file, one entry in `FORMATS`, and a test.
"""

from __future__ import annotations

from ...core.errors import UsageError, nearest
from .base import Format, Parsed, RowError
from .chat import Chat
from .instruction import Instruction
from .prompt_completion import PromptCompletion

FORMATS: tuple[Format, ...] = (Chat(), PromptCompletion(), Instruction())

__all__ = ["FORMATS", "Format", "Parsed", "RowError", "detect", "named"]


def named(name: str) -> Format:
    """The format called `name`; a UsageError that lists the known ones otherwise."""
    for known in FORMATS:
        if known.name == name:
            return known
    raise UsageError(f"unknown data format '{name}'", mend=nearest(name, [f.name for f in FORMATS]))


def detect(row: object) -> Format | None:
    """The first format that recognises the row by its keys, or None."""
    if not isinstance(row, dict):
        return None
    return next((known for known in FORMATS if known.matches(row)), None)
