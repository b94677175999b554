"""Rows judged by a crew, each by itself, where there are rows enough; where there are not, the checks judge them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example
from ..data.language import Usual
from ..data.look import Judgement
from ..data.rows import records
from ..data.wire import unpacked_judgements
from .crew import Answers, Crew


class Judging:
    """The judgements of a set of rows, which begin as soon as the crew is free; without `usual` none of languages."""

    def __init__(self, rows: Sequence[Example], usual: Usual | None, crew: Crew):
        self._rows = len(rows)
        task = {"task": "judge", "usual": list(usual) if usual else None}
        self._answers = crew.do(task, records(rows)) if crew.takes(len(rows)) else None

    def of(self, places: NDArray[np.int64]) -> Iterator[Judgement] | None:
        """Those of the rows at these places, which rise; None where no crew makes them.

        TunesmithError where a worker has ended.
        """
        return self._picked(self._answers, places) if self._answers else None

    def _picked(self, answers: Answers, places: NDArray[np.int64]) -> Iterator[Judgement]:
        for frame, wanted in answers.at(places, self._rows):
            yield from compress(unpacked_judgements(frame), wanted)
