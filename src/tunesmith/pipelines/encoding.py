"""Rows to tokens on all cores: what `encode_rows` does, by a crew where there are rows enough.

The crew begins as soon as it is free, while this process still looks at the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example
from ..data.rows import pick, records
from ..data.template import TemplateError, Tokenizer
from ..data.tokenize import Pieces, encode_rows
from ..data.wire import unpacked_pieces
from .crew import Answers, Crew

Shown = tuple[Example, Pieces | TemplateError]


class Encoding:
    """The tokens of a set of rows."""

    def __init__(self, tokenizer: Tokenizer, rows: Sequence[Example], crew: Crew):
        self._tokenizer, self._rows = tokenizer, rows
        self._answers = crew.do({"task": "encode"}, records(rows)) if crew.takes(len(rows)) else None

    def of(self, places: NDArray[np.int64]) -> Iterator[Shown]:
        """The rows at these places, which rise, with what `encode_rows` makes of each.

        TunesmithError where a worker has ended.
        """
        if not self._answers:
            return encode_rows(self._tokenizer, pick(self._rows, places))
        return self._picked(self._answers, places)

    def _picked(self, answers: Answers, places: NDArray[np.int64]) -> Iterator[Shown]:
        rows = iter(self._rows)
        for frame, wanted in answers.at(places, len(self._rows)):
            made = unpacked_pieces(islice(rows, len(wanted)), frame)
            yield from (shown for shown, kept in zip(made, wanted, strict=True) if kept)
