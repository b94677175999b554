"""What of a row is judged by itself, and takes longest: its marks and its languages.

It needs no other row, so that it can be done anywhere; `Marks` and `Languages` read it off the row that they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..core.messages import Example
from .language import Identifier, Usual
from .look import Judgement, Row
from .quality import marks


class Judge:
    """Judges rows; `usual` are the languages of the set, and without them languages are not judged."""

    def __init__(self, usual: Usual | None):
        self._usual, self._identifier, self._marks = usual, Identifier(), marks()

    def of(self, examples: Iterable[Example]) -> Iterator[Judgement]:
        """The judgement of each row, in order."""
        for row in map(Row.of, examples):
            found = tuple(mark.code for mark in self._marks if mark.wrong(row))
            yield Judgement(found, self._identifier.of_row(row, self._usual) if self._usual else ("", ""))
