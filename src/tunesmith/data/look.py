"""Checks that see every row once. A set may be larger than the memory, so they keep numbers and places, never texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from ..core.messages import Example
from .audit import Finding
from .repeats import prompt_text


class Row(NamedTuple):
    """What a check looks at."""

    origin: str
    prompt: str
    """What stands before the last answer, without the system's turns."""
    answer: str
    example: Example


class Look(Protocol):
    """A check that sees every row once, in order and portion by portion, and then says what it found."""

    def see(self, portion: Sequence[Row]) -> None:
        """The next rows."""

    def findings(self) -> Iterator[Finding]:
        """What is to be told when all rows were seen."""


class Marks:
    """The rows for which `wrong` holds; each is judged by itself."""

    def __init__(self, wrong: Callable[[Row], bool], told: Callable[[tuple[str, ...]], Finding]):
        self._wrong, self._told = wrong, told
        self._places: list[str] = []

    def see(self, portion: Sequence[Row]) -> None:
        """The next rows."""
        self._places += [row.origin for row in portion if self._wrong(row)]

    def findings(self) -> Iterator[Finding]:
        """One finding with all places."""
        if self._places:
            yield self._told(tuple(self._places))


def portions(examples: Sequence[Example], size: int = 4096) -> Iterator[list[Row]]:
    """All rows in order, some at a time."""
    portion: list[Row] = []
    for example in examples:
        portion.append(Row(example.origin, prompt_text(example), example.answer(), example))
        if len(portion) == size:
            yield portion
            portion = []
    if portion:
        yield portion
