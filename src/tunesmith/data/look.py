"""Checks that see a set once, in order and portion by portion, so that it need never be in memory as a whole."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, starmap
from typing import NamedTuple, Protocol

from ..core.events import Progress, Sink, StageEnded, silent
from ..core.messages import Example
from .audit import Finding
from .repeats import prompt_text

PORTION = 64
"""Rows looked at together: few enough to be gone before Python's garbage collector counts them among what stays,
which would make a row three times as dear."""


_TOLD_EVERY = 1000


class Judgement(NamedTuple):
    """What was found of a row that is judged by itself, wherever that was done."""

    marks: tuple[str, ...]
    """The codes of the `Marks` that it has."""
    languages: tuple[str, str]
    """ISO 639 codes of prompt and answer, "" where that is not judged."""


class Row(NamedTuple):
    """What the checks look at."""

    origin: str
    prompt: str
    """What stands before the last answer, without system turns."""
    answer: str
    example: Example
    judged: Judgement | None = None
    """What need not be judged anew."""

    @staticmethod
    def of(example: Example, judged: Judgement | None = None) -> Row:
        """The example as it is looked at."""
        return Row(example.origin, prompt_text(example), example.answer(), example, judged)


class Look(Protocol):
    """A check that sees every row once, in order and portion by portion, and then says what it found.

    It keeps numbers, never texts.
    """

    def see(self, portion: Sequence[Row]) -> None:
        """Look at the next rows."""

    def findings(self) -> Iterator[Finding]:
        """What was found in all rows seen."""


class Marks:
    """The rows for which `wrong` holds; each is judged by itself."""

    def __init__(self, code: str, wrong: Callable[[Row], bool], told: Callable[[tuple[str, ...]], Finding]):
        self.code, self.wrong, self._told = code, wrong, told
        self._places: list[str] = []

    def see(self, portion: Sequence[Row]) -> None:
        """Look at the next rows."""
        self._places += [
            row.origin for row in portion if (self.code in row.judged.marks if row.judged else self.wrong(row))
        ]

    def findings(self) -> Iterator[Finding]:
        """One finding with all places."""
        if self._places:
            yield self._told(tuple(self._places))


def portions(
    examples: Sequence[Example], size: int = PORTION, judged: Iterable[Judgement] | None = None
) -> Iterator[list[Row]]:
    """The rows in order, `size` at a time, each with what it was `judged`, where that was done."""
    rows: Iterator[Row] = map(Row.of, examples)
    if judged is not None:
        rows = starmap(Row.of, zip(examples, judged, strict=True))
    while portion := list(islice(rows, size)):
        yield portion


def look(
    examples: Sequence[Example], looks: Sequence[Look], sink: Sink = silent,
    judged: Iterable[Judgement] | None = None,
) -> Iterator[Finding]:  # fmt: skip
    """Show all rows to all checks, in one go; then what each found. The sink hears how long each took."""
    took = dict.fromkeys(looks, 0.0)
    done = 0
    for portion in portions(examples, judged=judged):
        for one in looks:
            begin = time.monotonic()
            one.see(portion)
            took[one] += time.monotonic() - begin
        done += len(portion)
        if done % _TOLD_EVERY < PORTION:
            sink(Progress(done, len(examples), "rows looked at"))
    for one in looks:
        begin = time.monotonic()
        found = list(one.findings())
        sink(StageEnded(type(one).__name__, took[one] + time.monotonic() - begin))
        yield from found


class Places:
    """Origins (`file:line`) of many rows as numbers: 12 bytes a row."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._file, self._line = array("i"), array("q")

    def __len__(self) -> int:
        return len(self._line)

    def add(self, origin: str) -> None:
        """Keep one more."""
        name, colon, line = origin.rpartition(":")
        numbered = bool(colon) and line.isascii() and line.isdigit() and len(line) < 19 and line == str(int(line))
        self._file.append(self._files.setdefault(name if numbered else origin, len(self._files)))
        self._line.append(int(line) if numbered else -1)

    def at(self, indices: Iterable[int]) -> tuple[str, ...]:
        """Some of them, as they were given."""
        names = list(self._files)
        lines = ((names[self._file[i]], self._line[i]) for i in indices)
        return tuple(name if line < 0 else f"{name}:{line}" for name, line in lines)
