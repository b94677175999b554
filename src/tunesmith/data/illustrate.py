"""An example for each finding: the beginning of the first row that it is about, as far as rows can be found again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..core.messages import Row
from .audit import Finding, place_of
from .excerpt import excerpt
from .kinds import better
from .pii import find as by_shape
from .pii.mask import Find
from .repeats import prompt_text

SIDE = 90
"""Characters of what is asked and of what is answered."""


class Shelf:
    """Rows by their places. Files are in the order of their lines, so a row costs some twenty reads and no memory."""

    def __init__(self) -> None:
        self._files: dict[str, list[Sequence[Row]]] = {}

    def add(self, rows: Sequence[Row]) -> None:
        """The rows of one file, in its order."""
        if rows:
            self._files.setdefault(rows[0].origin.rpartition(":")[0], []).append(rows)

    def at(self, place: str) -> Row | None:
        """The row at `file:line`; of files of one name the first that has it. None where there is none."""
        name, _, line = place.rpartition(":")
        for rows in self._files.get(name, ()):
            index = bisect_left(rows, int(line), key=lambda row: int(row.origin.rpartition(":")[2]))
            if index < len(rows) and rows[index].origin == place:
                return rows[index]
        return None


def illustrated(findings: Iterable[Finding], shelf: Shelf, find: Find = by_shape) -> list[Finding]:
    """The findings, those that had no example with one; `find` says what is masked in it."""
    return [f if f.example or not f.rows else replace(f, example=_first(f.rows, shelf, find)) for f in findings]


def _first(places: Sequence[str], shelf: Shelf, find: Find) -> str:
    row = shelf.at(place_of(places[0]))
    return of_row(row, find) if row else ""


def of_row(row: Row, find: Find = by_shape) -> str:
    """What a row asks and what it answers, the beginning of each."""
    shown = better(row)
    answer = excerpt(shown.answer() or " ".join(m.calls() for m in shown.reply()), SIDE, find)
    return excerpt(prompt_text(shown), SIDE, find) + (f" → {answer}" if answer else "")
