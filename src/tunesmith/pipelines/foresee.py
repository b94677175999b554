"""What a run will take, before any of it is computed.

Time: the plan of the steps, each counted in what it asks of the machine (`pipelines.costs`), at the rates that the
machine has in this moment (`engine.rate`). Memory: `pipelines.forecast`, on top of what the process holds. Both are
guesses, which `pipelines.foretell` makes good once the model is there.

Where memory would not suffice, activation checkpointing is switched on, unless the recipe says otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..engine import memory, precision
from ..engine.rate import Rates, rates
from ..engine.steps import Steps
from ..methods.distill.config import DistillSpec
from ..models.load import device
from ..models.size import Size
from . import forecast
from .costs import Costs
from .prepare import Prepared
from .recipe import RunSpec

LOOKED_AT = 4096
"""Steps of the plan that are counted one by one; the others are taken to be like these."""
ROOM = 0.9
"""The share of the available memory that a run may be forecast to need."""


@dataclass(frozen=True)
class Foreseen:
    """The forecast of one run."""

    step_seconds: tuple[float, ...]
    """Of the first steps, `LOOKED_AT` at most."""
    steps: int
    """Of the whole training."""
    validation_seconds: float
    """Of all validations together."""
    peak_memory_mb: int
    """Of the process; with a GPU, of what lies there."""
    checkpointing: bool
    """Whether activations are computed again in the backward pass."""
    state_bytes: int
    """Of the optimizer, which come with its first step."""
    costs: Costs
    rates: Rates
    remark: str = ""
    """Why it is as it is, where that was decided here."""
    known: bool = True
    """Whether the time can be told before the first steps: not with a teacher."""
    tried: bool = False
    """Whether parts of its steps were computed to see."""

    @property
    def seconds(self) -> float:
        """Of all steps, as `train_seconds` of a finished run counts them: without validations and checkpoints."""
        return self.between(0, self.steps)

    def between(self, first: int, end: int) -> float:
        """Of the steps with the numbers from `first` up to before `end`."""
        told = self.step_seconds
        mean = sum(told) / max(len(told), 1)
        return sum(told[first:end]) + mean * (max(end, len(told)) - max(first, len(told)))

    def line(self) -> str:
        """For the person who waits."""
        size = f"{self.peak_memory_mb / 953.67:.1f} GB"
        if not self.known:
            return f"forecast: {size}; how long it takes is told after the first steps"
        return f"forecast: about {time_told(self.seconds + self.validation_seconds)}, {size}"

    def at(self, pace: float, peak_memory_mb: int) -> Foreseen:
        """The same with times so many times as long, and another peak."""
        return replace(
            self, step_seconds=tuple(pace * one for one in self.step_seconds),
            validation_seconds=pace * self.validation_seconds, peak_memory_mb=peak_memory_mb, tried=True,
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The `forecast` of `run.json`."""
        return {
            "seconds": round(self.seconds, 2) if self.known else None,
            "validation_seconds": round(self.validation_seconds, 2) if self.known else None,
            "peak_memory_mb": self.peak_memory_mb,
            "activation_checkpointing": self.checkpointing,
            "tried": self.tried,
        }


def foresee(prepared: Prepared, recorded: dict[str, Any] | None, processes: int = 1) -> Foreseen:
    """Of a run whose number type is chosen, in so many processes. `recorded` is the forecast that a run that goes on
    was begun with, which settles whether it computes activations again; {} where it was begun without one, None for a
    new run."""
    size, spec = Size.of(prepared.base), prepared.spec
    sizes, held = prepared.train.sizes, prepared.validation.sizes
    lengths, labelled = sizes.lengths.tolist(), sizes.labelled.tolist()
    plan = Steps(lengths, prepared.repeats, spec.training, spec.seed, prepared.curriculum)
    looked_at = [step for _, step in itertools.islice(plan.after(0), LOOKED_AT)]
    most = max(padded(piece, lengths) for step in looked_at for piece in _costs(spec, size).pieces(step, lengths))
    share = float(sizes.labelled.sum()) / max(1.0, float(sizes.lengths.sum()))

    def needed(wanted: RunSpec) -> float:
        return forecast.memory_of(wanted, size, str(spec.training.precision), most, share).total / 2**20

    spec, remark = _decided(spec, needed, recorded)
    costs, pace = _costs(spec, size), _pace(spec, size)
    epoch = plan.total / plan.passes
    steps = tuple(
        (costs.step(step, lengths, labelled, again=number >= epoch) + costs.rehearsal(number)).seconds(pace) / processes
        for number, step in enumerate(looked_at)
    )
    count = -(-plan.total // plan.resolve_cadence(spec.training).evaluate_every)
    validations = costs.validations(count, held.lengths.tolist(), held.labelled.tolist()).seconds(pace)
    return Foreseen(
        steps, plan.total, validations / processes, round(memory.held_mb() + needed(spec)), _on(spec) is True,
        forecast.state_bytes(spec, size), costs, pace, remark, known=not isinstance(spec.method, DistillSpec),
    )  # fmt: skip


def padded(rows: Sequence[int], lengths: Sequence[int]) -> int:
    """Tokens of rows that are computed together, with padding."""
    return len(rows) * max(lengths[row] for row in rows)


def settled(spec: RunSpec, *, on: bool) -> RunSpec:
    """The recipe with "auto" replaced."""
    devices = spec.training.devices.model_copy(update={"activation_checkpointing": on})
    return spec.model_copy(update={"training": spec.training.model_copy(update={"devices": devices})})


def _decided(
    spec: RunSpec, needed: Callable[[RunSpec], float], recorded: dict[str, Any] | None
) -> tuple[RunSpec, str]:  # fmt: skip
    """The recipe with activation checkpointing decided, and why; `needed` tells MiB beside what is held."""
    if _on(spec) != "auto":
        return spec, ""
    if recorded is not None:
        return settled(spec, on=bool(recorded.get("activation_checkpointing"))), ""
    without = settled(spec, on=False)
    more, free = needed(without), memory.available_mb()
    if more <= ROOM * free or spec.adapter.cannot_checkpoint:
        return without, ""
    remark = (
        f"{more / 953.67:.1f} GB more would be needed and {free / 953.67:.1f} GB are free: activation checkpointing is "
        "on, which takes less memory and more time (training.devices.activation_checkpointing)"
    )
    return settled(spec, on=True), remark


def _on(spec: RunSpec) -> bool | str:
    return spec.training.devices.activation_checkpointing


def _costs(spec: RunSpec, size: Size) -> Costs:
    return Costs(spec, size, str(spec.training.precision), whole=device().type != "cpu")


def _pace(spec: RunSpec, size: Size) -> Rates:
    inner = max((max(out, into) for _, out, into in size.linear), default=size.hidden)
    number_type = precision.DTYPES[str(spec.training.precision)]
    return rates(number_type, max(size.hidden, 1), max(inner, 1), device().type)


def time_told(seconds: float) -> str:
    """In words: nobody plans by the second."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = round(seconds / 3600, 1)
    return f"{hours:.0f} h" if hours >= 10 or hours == int(hours) else f"{hours:.1f} h"
