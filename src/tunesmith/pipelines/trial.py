"""A recipe trained on some of its rows and measured beside the base: what pilots and learning curves are made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import clock, files
from ..core.events import Event, Progress, Sink, StepDone
from ..data.rows import pick
from ..engine import memory, precision
from ..engine.steps import Steps
from ..evaluation.compare import Comparison, compare
from ..methods.sft.config import SftSpec
from . import bench as benches
from . import kept_scores
from .prepare import Prepared, Rows
from .recipe import RunSpec
from .rundir import RunDir
from .score import Score, score
from .train import train

REHEARSED = 64
"""Texts that a trial rehearses at most."""
FILE = "trial.json"
"""In a trial's folder: what came of it."""
VALIDATIONS = 3
"""In a trial; the best of these is what is kept."""


@dataclass(frozen=True)
class Trial:
    """What came of one training. `seconds` are of all of it, `train_seconds` of the steps; memory in MiB, at most."""

    rows: int
    steps: int
    comparison: Comparison
    forgetting: float | None
    """Nats a token on general text; None where it cannot be measured."""
    train_seconds: float
    seconds: float
    memory: int | None
    trained_parameters: int

    @property
    def loss(self) -> float:
        """Of the held-out rows, nats a token."""
        return self.comparison.tuned["loss"].value

    @property
    def quality(self) -> float:
        """By the metric that counts, more is better."""
        first = self.comparison.metrics[0]
        return -first.figures.tuned.value if first.lower_is_better else first.figures.tuned.value


def measured_on(prepared: Prepared, held: Rows) -> Prepared:
    """The same with `held` as the rows that models are scored on, and none of the probes that trials do without."""
    lighter = prepared.spec.evaluation.model_copy(
        update={"skills": False, "memorisation": None, "safety": False, "slices": (), "calibration": False}
    )
    spec = prepared.spec.model_copy(update={"evaluation": lighter})
    return replace(prepared, spec=spec, test=held)


def with_numbers(prepared: Prepared) -> Prepared:
    """The same with its type of numbers chosen for this machine."""
    chosen = precision.choose(prepared.spec.training.precision)
    training = prepared.spec.training.model_copy(update={"precision": chosen})
    return replace(prepared, spec=prepared.spec.model_copy(update={"training": training}))


def score_base(prepared: Prepared, sink: Sink) -> Score:
    """The untrained model on the held-out rows."""
    bench = benches.build(prepared.spec, prepared.base, prepared.tokenizer)
    if not prepared.spec.adapter.keeps_base:
        return score(bench, prepared, sink)
    with bench.as_base():
        return score(bench, prepared, sink)


def drawn_order(prepared: Prepared) -> list[int]:
    """The training rows in an order drawn by the seed: each part of them is the beginning of every larger one."""
    order: list[int] = np.random.default_rng(prepared.spec.seed).permutation(len(prepared.train.encoded)).tolist()
    return order


def attempt(
    prepared: Prepared, places: Sequence[int], base: Score, folder: Path, sink: Sink, *, resume: bool = False,
    earlier: float = 0.0,
) -> Trial:  # fmt: skip
    """Train on the training rows at `places` and score on the held-out rows. Of its folder the curves are kept, and
    what came of it.

    With `resume` a trial that is finished there is taken as it is, and one that was stopped goes on from its newest
    checkpoint; `earlier` are the seconds that it has had already.
    """
    if resume and (known := _finished(prepared, base, folder)):
        return known
    begun = time.monotonic()
    memory.start_over()
    part = _part(prepared, sorted(places))
    files.make_folder(folder)
    run = RunDir(folder)
    goes_on = resume and (folder / "run.json").is_file()
    run.update(status="trial", date=run.date() if goes_on else clock.today(), rows=len(places))
    run.write_recipe(part.spec)
    watched = _only_progress(sink)
    bench = benches.build(part.spec, part.base, part.tokenizer)
    outcome, bench = train(part, bench, run, resume=goes_on, sink=watched)
    tuned = score(bench, part, watched)
    figures = {
        "rows": len(places), "steps": outcome.progress.step, "train_seconds": outcome.progress.seconds,
        "seconds": earlier + time.monotonic() - begun, "memory": memory.peak_since_mb(),
        "trained_parameters": int(run.read_json("run.json")["trained_parameters"]),
    }  # fmt: skip
    run.write_json(FILE, figures | {"score": kept_scores.as_json(tuned)})
    for name in ("checkpoints", bench.adapter.folder_name):
        files.discard(folder / name)
    return _made(prepared, base, tuned, figures)


def _finished(prepared: Prepared, base: Score, folder: Path) -> Trial | None:
    """What came of a trial; None where it is not finished."""
    if not (folder / FILE).is_file():
        return None
    found = RunDir(folder).read_json(FILE)
    tuned = kept_scores.read(found.pop("score"))
    for name in ("checkpoints", "adapter", "model"):  # a kill may have come before they were removed
        files.discard(folder / name)
    return _made(prepared, base, tuned, found)


def _made(prepared: Prepared, base: Score, tuned: Score, figures: dict[str, Any]) -> Trial:
    forgetting = tuned.general.loss - base.general.loss if base.general and tuned.general else None
    return Trial(comparison=compared(prepared, base, tuned), forgetting=forgetting, **figures)


def compared(prepared: Prepared, base: Score, tuned: Score) -> Comparison:
    """Base and tuned model on the held-out rows."""
    spec = prepared.spec
    return compare(
        prepared.test.conversations, base.answers, tuned.answers, prepared.metrics, spec.evaluation, spec.seed,
        spec.method.build().compared(base.held_out, tuned.held_out),
    )  # fmt: skip


def _part(prepared: Prepared, places: list[int]) -> Prepared:
    """With some of the training rows; of packed ones, with some of the sequences that they were put into."""
    train = prepared.train
    if len(train.encoded) == len(train.examples):
        rows = train.pick(places)
    else:
        rows = Rows(train.examples, pick(train.encoded, places), train.sizes.pick(places))
    repeats = [prepared.repeats[place] for place in places]
    order = prepared.curriculum.pick(places) if prepared.curriculum else None
    spec = prepared.spec
    steps = Steps(rows.sizes.lengths.tolist(), repeats, spec.training, spec.seed, order).total
    return replace(prepared, train=rows, repeats=repeats, curriculum=order, spec=_lighter(spec, steps))


def _lighter(spec: RunSpec, steps: int) -> RunSpec:
    """Few validations and checkpoints, and no more texts to rehearse than a short training needs: either can take
    longer than its steps."""
    every = -(-steps // VALIDATIONS)
    training = spec.training.model_copy(update={"evaluate_every": every, "checkpoint_every": every})
    method = spec.method
    if isinstance(method, SftSpec) and method.rehearsal:
        rows = min(method.rehearsal.rows, REHEARSED)
        method = method.model_copy(update={"rehearsal": method.rehearsal.model_copy(update={"rows": rows})})
    return spec.model_copy(update={"training": training, "method": method})


def _only_progress(sink: Sink) -> Sink:
    """How far a trial is; what it has to say besides would bury what the trials say together."""

    def pass_on(event: Event) -> None:
        if isinstance(event, Progress | StepDone):
            sink(event)

    return pass_on
