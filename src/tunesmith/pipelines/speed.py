"""How fast a recipe trains on this machine, and how long the whole of it will take: some of its steps, computed and
thrown away. Nothing is written.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.events import Note, Progress, Sink
from ..data.batch import Step
from ..data.rows import pick
from ..engine import memory, optim, precision
from ..engine.distributed import ALONE
from ..engine.gradients import Gradients
from ..engine.rate import matrix_rate
from ..engine.steps import Steps
from ..methods.base import Scene
from ..models.load import device
from . import bench as benches
from . import forecast
from .foresee import LOOKED_AT
from .prepare import Prepared, prepare
from .recipe import RunSpec
from .trial import with_numbers

STEPS = 8


@dataclass(frozen=True)
class Speed:
    """What some steps of a recipe told. Tokens are real ones, padding left out."""

    steps: int
    tokens: int
    seconds: float
    """Of these steps, after one that is not counted."""
    peak_memory_mb: int
    number_type: str
    matrix_rate: float
    """Operations a second of large products of this number type, just before."""
    operations: float | None
    """What a token costs, as `pipelines.forecast` counts; None where the data tells no tokens."""
    planned_steps: int
    planned_tokens: int
    """Of the whole training."""

    @property
    def tokens_per_s(self) -> float:
        """Over the steps."""
        return self.tokens / self.seconds

    @property
    def train_seconds(self) -> float:
        """Of all steps of the training, validations left out; of one that computes frozen layers once, at most."""
        return self.planned_tokens / self.tokens_per_s

    @property
    def share(self) -> float | None:
        """Of the machine's matrix rate."""
        return self.operations * self.tokens_per_s / self.matrix_rate if self.operations else None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        told = {
            "tokens_per_s": self.tokens_per_s,
            "train_seconds": self.train_seconds,
            "share_of_matrix_rate": self.share,
        }
        return asdict(self) | told


def measure(spec: RunSpec, folder: Path | None, steps: int, sink: Sink) -> Speed:
    """Compute `steps` optimizer steps of the recipe, spread over the lengths that its steps have, after the longest.

    ContentError for what cannot be trained.
    """
    prepared = prepare(spec, folder, sink=sink)
    prepared.require_clean()
    prepared = with_numbers(prepared)
    lengths = prepared.train.sizes.lengths.tolist()
    plan = Steps(lengths, prepared.repeats, prepared.spec.training, prepared.spec.seed)
    looked_at = [step for _, step in itertools.islice(plan.after(0), LOOKED_AT)]
    mean = sum(lengths[row] for step in looked_at for row in _rows(step)) / len(looked_at)
    chosen = _spread(looked_at, lengths, steps)
    rate = matrix_rate(precision.DTYPES[str(prepared.spec.training.precision)], device=device().type)
    told = forecast.of_audit(prepared.spec, prepared.base, prepared.audit)
    tokens, seconds = _timed(prepared, chosen, sink)
    return Speed(
        len(chosen) - 1, tokens, seconds, memory.peak_since_mb() or memory.peak_mb(),
        str(prepared.spec.training.precision), rate, told.operations / told.tokens if told else None,
        plan.total, round(mean * plan.total),
    )  # fmt: skip


def _rows(step: Step) -> list[int]:
    return [row for micro in step for row in micro]


def _spread(plan: Sequence[Step], lengths: Sequence[int], count: int) -> list[Step]:
    """The longest step, then `count` from the middle of as many equal parts of the plan in the order of its lengths."""
    order = sorted(plan, key=lambda step: sum(lengths[row] for row in _rows(step)))
    return [order[-1], *(order[(2 * part + 1) * len(order) // (2 * count)] for part in range(count))]


def _timed(prepared: Prepared, chosen: Sequence[Step], sink: Sink) -> tuple[int, float]:
    """(tokens, seconds) of all steps but the first."""
    places = sorted({row for step in chosen for row in _rows(step)})
    bench = benches.build(prepared.spec, prepared.base, prepared.tokenizer)
    method, training = prepared.spec.method.build(), prepared.spec.training
    learned = method.prepare(
        Scene(
            bench.model, bench.adapter, bench.tokenizer, prepared.spec.seed, pick(prepared.train.encoded, places),
            number_type=bench.number_type, sink=sink, examples=pick(prepared.train.examples, places),
            max_length=int(training.max_length),
        )
    )  # fmt: skip
    left = range(len(places)) if learned.places is None else learned.places
    at = {places[place]: number for number, place in enumerate(left)}
    trainable = bench.adapter.parameters()
    gradients = Gradients(
        bench.model, trainable, method, learned.train, training, bench.pad_id, ALONE,
        lambda text: sink(Note(text, "warning")),
    )  # fmt: skip
    optimizer = optim.build(training, trainable, bench.model, float(training.learning_rate), bench.adapter.rates())
    tokens, seconds = 0, 0.0
    for number, step in enumerate(chosen):
        begun = time.perf_counter()
        measured = gradients.compute(number, [[at[row] for row in micro if row in at] for micro in step])
        optimizer.step()
        gradients.clear()
        if number:
            tokens, seconds = tokens + measured.tokens, seconds + time.perf_counter() - begun
        sink(Progress(number + 1, len(chosen), "steps"))
    return tokens, seconds
