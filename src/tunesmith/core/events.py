"""What a running journey tells whoever watches it. Facts only: how they are shown is the watcher's affair."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

Phase = Literal["check", "load", "score base", "train", "score tuned", "report"]


@dataclass(frozen=True)
class PhaseStarted:
    """A phase begins."""

    phase: Phase
    detail: str = ""


@dataclass(frozen=True)
class PhaseEnded:
    """A phase is over; `seconds` of wall time."""

    phase: Phase
    seconds: float


@dataclass(frozen=True)
class StageStarted:
    """A part of the running phase begins."""

    stage: str


@dataclass(frozen=True)
class StageEnded:
    """A part of the running phase is over; `seconds` of wall time."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class Progress:
    """`done` of `total` items of the running phase, in `unit`; None where nobody knows how many there are."""

    done: int
    total: int | None
    unit: str


@dataclass(frozen=True)
class StepDone:
    """One optimizer step: loss in nats a labelled token, speed in real tokens a second, time left in seconds."""

    step: int
    total_steps: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    seconds_left: float
    seconds: float = 0.0
    """Of this step alone."""


@dataclass(frozen=True)
class Validated:
    """A validation pass: loss in nats a labelled token; `best` when it is the lowest so far."""

    step: int
    loss: float
    best: bool


@dataclass(frozen=True)
class Note:
    """A sentence for the person who watches."""

    text: str
    level: Literal["info", "warning"] = "info"


Event = PhaseStarted | PhaseEnded | StageStarted | StageEnded | Progress | StepDone | Validated | Note
Sink = Callable[[Event], None]


def silent(event: Event) -> None:
    """A sink that drops everything."""


@contextmanager
def stage(sink: Sink, name: str) -> Iterator[None]:
    """Tell that the block begins, and how long it took."""
    sink(StageStarted(name))
    begin = time.monotonic()
    yield
    sink(StageEnded(name, time.monotonic() - begin))


def counted(items: Iterable[T], sink: Sink, unit: str, total: int | None = None) -> Iterator[T]:
    """The items, and at every thousandth of them a word on how many there were."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % 1000 == 0:
            sink(Progress(number, total, unit))
