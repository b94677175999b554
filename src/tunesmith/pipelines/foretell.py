"""What a run will take, told before its first step, and once more where the first steps show another time.

Before the first step of a run that is worth it, some of the training's pieces are computed and thrown away: the one
with the most tokens, which shows the memory and is not timed, and some as they come. Their seconds by those foreseen
(`pipelines.foresee`) are the pace at which all is foreseen anew: the count only says how much dearer other steps are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.events import Event, Note, Sink, StepDone
from ..engine import memory
from ..engine.loop import Loop
from .foresee import LOOKED_AT, Foreseen, padded, time_told

WORTH = 30.0
"""Seconds of a whole training from which on parts of it are tried."""
TRIED, TRIED_SECONDS = 12, 0.5
"""So many pieces are timed at most, and no further one after so many seconds."""
GROWS = 1.15
"""By so much a process on a CPU grows from its trial to its end: programs for shapes that come later, validations, gaps
that the allocator keeps. Ten recipes grew by 1 to 24 %, with a median of 16 (`benchmarks/forecast_error.py`)."""
FEWEST_STEPS, SHARE = 3, 0.05
"""A run is told of again after so many steps, and once the steps after the first have had this share of its time."""
SURE_SECONDS = 3.0
"""So many seconds of steps are enough, however long the run."""
APART = 0.1
"""A later forecast that is no further from the first is not told."""


class Foreteller:
    """Tells what is foreseen, tries it, and, as the sink of the training, sees how it comes. `keep` gets what is found,
    in the words of `run.json`."""

    def __init__(self, foreseen: Foreseen, sink: Sink, keep: Callable[[dict[str, Any]], None]):
        self.foreseen, self._sink, self._keep = foreseen, sink, keep
        self._seconds: list[float] = []
        self._first: int | None = None
        self._told = False

    def before(self, loop: Loop) -> None:
        """Try some of the training and tell what it will take; every process takes part."""
        if self.foreseen.known and self.foreseen.seconds >= WORTH:
            self.foreseen = tried(self.foreseen, loop)
        loop.plan.world.only_main(lambda: self._keep(self.foreseen.as_json()))
        self._sink(Note(self.foreseen.line()))

    def __call__(self, event: Event) -> None:
        """Pass the event on, and say what it shows."""
        self._sink(event)
        if isinstance(event, StepDone) and not self._told:
            self._first = event.step - 1 if self._first is None else self._first
            self._seconds.append(event.seconds)
            self._told = self._due(event.step)
            if self._told and event.step < event.total_steps:
                self._tell(event.step)

    def _due(self, done: int) -> bool:
        """Whether enough is known. The first step of a process does much once and is left out."""
        if len(self._seconds) < FEWEST_STEPS:
            return False
        return sum(self._seconds[1:]) >= min(SURE_SECONDS, SHARE * self._pace(done) * self.foreseen.seconds)

    def _pace(self, done: int) -> float:
        """Real seconds of the steps so far in forecast ones."""
        return sum(self._seconds[1:]) / (self.foreseen.between((self._first or 0) + 1, done) or 1.0)

    def _tell(self, done: int) -> None:
        foreseen, pace = self.foreseen, self._pace(done)
        begun = self._first == 0
        before = sum(self._seconds) if begun else pace * foreseen.between(0, done)
        seconds = before + pace * foreseen.between(done, foreseen.steps)
        validation = pace * foreseen.validation_seconds
        if begun:
            after = {"steps": done, "seconds": round(seconds, 2), "validation_seconds": round(validation, 2)}
            self._keep(foreseen.as_json() | {"after_steps": after})
        apart = abs(seconds + validation - foreseen.seconds - foreseen.validation_seconds)
        if not begun or not foreseen.known or apart > APART * (foreseen.seconds + foreseen.validation_seconds):
            self._sink(Note(f"after {len(self._seconds)} steps: {self._words(seconds, validation, before, done)}"))

    def _words(self, seconds: float, validation: float, before: float, done: int) -> str:
        if self._first == 0:
            return f"about {time_told(seconds + validation)}"
        left = validation * (1 - done / max(self.foreseen.steps, 1))
        return f"about {time_told(seconds - before + left)} left"


def tried(foreseen: Foreseen, loop: Loop) -> Foreseen:
    """The forecast at the pace that some pieces of the loop's first steps show."""
    rows, costs = loop.plan.train, foreseen.costs
    lengths, labelled = [row.length for row in rows], [row.labelled for row in rows]
    pieces = [piece for step in loop.first(LOOKED_AT) for piece in costs.pieces(step, lengths)]
    number = 1  # not one of those steps at which something comes on top
    loop.tried(number, [max(pieces, key=lambda piece: padded(piece, lengths))])
    real, guessed = 0.0, 0.0
    for piece in pieces[:TRIED]:
        real += loop.tried(number, [piece])
        work = costs.piece(piece, lengths, labelled, again=False) + costs.rehearsal(number)
        guessed += work.seconds(foreseen.rates) / loop.plan.world.size
        if loop.plan.world.share(real) >= TRIED_SECONDS:
            break
    peak = memory.gpu_peak_mb() or GROWS * memory.peak_mb()
    return foreseen.at(real / guessed, round(peak + foreseen.state_bytes / 2**20))
