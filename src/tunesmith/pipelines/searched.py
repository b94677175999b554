"""Rows that a crew searches for personal data while more of them are read."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Condition
from types import TracebackType

from ..core.events import Progress, Sink
from ..core.messages import Example, Row
from ..data.pii.rows import Found
from ..data.rows import RowStore
from ..data.wire import unpacked_finds
from . import crew as crews
from .crew import Answers, Crew


class SearchedRows(RowStore[Row]):
    """Rows as they are read. Use it as a context manager around the reading: behind the block they are all there.

    The search begins when there are rows enough for a crew, if they are conversations; without a crew there is none.
    """

    def __init__(self, crew: Crew | None) -> None:
        super().__init__()
        self._crew = crew
        self._grown, self._whole = Condition(), False
        self._answers: Answers | None = None

    def __enter__(self) -> SearchedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not error:
            self._begin()
        with self._grown:
            self._whole = True
            self._grown.notify_all()

    def append(self, row: Row) -> None:
        """One more row. OutputError where the disk takes no more."""
        super().append(row)
        if len(self) % crews.PORTION == 0:
            self._begin()
            with self._grown:
                self._grown.notify_all()

    def finds(self, sink: Sink) -> Iterator[Found] | None:
        """The finds in all rows, in order; None where no crew searches. TunesmithError where a worker has ended."""
        return self._found(self._answers, sink) if self._answers else None

    def _found(self, answers: Answers, sink: Sink) -> Iterator[Found]:
        first = 0
        for frame in answers.frames():
            yield from unpacked_finds(frame, first)
            first += crews.PORTION
            sink(Progress(min(first, len(self)), len(self), "rows searched"))

    def _begin(self) -> None:
        """Begin the search, unless it is on or is not to be."""
        if self._crew and not self._answers and self._crew.takes(len(self)) and isinstance(self[0], Example):
            self._answers = self._crew.do({"task": "find"}, self._coming())

    def _coming(self) -> Iterator[bytes]:
        """The rows' JSON as they come, till they are all there."""
        number, whole = 0, False
        while not whole:
            with self._grown:
                while len(self) < number + crews.PORTION and not self._whole:
                    self._grown.wait()
                whole = self._whole
            for record in self.records(number):
                number += 1
                yield record
