"""Quality at a tenth, a quarter, half and all of the training rows, and what twice as many would bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import ConflictError, ContentError, InterruptedRunError
from ..core.events import Note, Sink
from ..evaluation.learning_curve import SHARES, Point, forecast
from . import report_growth
from .prepare import Prepared, prepare
from .recipe import RunSpec
from .rundir import RunDir
from .trial import Trial, attempt, drawn_order, measured_on, score_base, with_numbers

FEWEST_ROWS = 40
"""Training rows of which a tenth still is something to train on."""


def learning_curve(
    spec: RunSpec, out: Path, *, sink: Sink, folder: Path | None = None, run: RunDir | None = None
) -> dict[str, Any]:
    """Train the recipe on growing parts of its rows, each holding the one before, and write `curve.json`; into the
    folder of a finished `run` of the same recipe, too.

    Measured on the test rows, or on validation rows where there are none: nothing is chosen here. ConflictError, before
    anything is trained, for a run of another recipe.
    """
    if out.exists():
        raise ConflictError(f"{out} is there already", mend="choose another --out")
    made = prepare(spec, folder, sink=sink)
    made.require_clean()
    held = made.test if len(made.test.examples) else made.validation
    if not len(held.examples):
        raise ContentError("there are no held-out rows to measure on", where="data.test", mend="set data.test")
    ready = with_numbers(measured_on(made, held))
    of = _of(ready)
    if run:
        report_growth.require_same(of, run)
    order = drawn_order(ready)
    if len(order) < FEWEST_ROWS:
        raise ContentError(
            f"{len(order)} training rows are too few for a curve: at least {FEWEST_ROWS} are needed",
            where="data.train", mend="give more rows",
        )  # fmt: skip
    files.make_folder(out)
    with _interruption_told():
        trials = _trials(ready, order, out, sink)
    found = _told(ready, trials, "test" if held is made.test else "validation") | {"of": of}
    files.write_json(out / "curve.json", found)
    if run:
        report_growth.keep(found, run)
    return found


def _of(ready: Prepared) -> dict[str, str]:
    """What the curve is of: it may be shown with every run that was trained from the same."""
    return {
        "recipe": ready.spec.training_fingerprint(), "data": ready.data_fingerprint, "base": ready.base.fingerprint()
    }  # fmt: skip


@contextmanager
def _interruption_told() -> Iterator[None]:
    """An interruption inside the block says that nothing goes on from here."""
    try:
        yield
    except InterruptedRunError as error:
        error.mend = "the curve begins anew: run it again with another --out"
        raise


def _trials(ready: Prepared, order: Sequence[int], out: Path, sink: Sink) -> list[Trial]:
    base, trials = score_base(ready, sink), []
    for share in SHARES:
        rows = round(share * len(order))
        made = attempt(ready, order[:rows], base, out / "trials" / f"{round(100 * share):03}", sink)
        first = made.comparison.metrics[0]
        sink(Note(f"{rows:,} rows: {first.name} {first.figures.tuned.value:.3f}, {made.seconds:.0f} s"))
        trials.append(made)
    return trials


def _told(ready: Prepared, trials: Sequence[Trial], measured_on: str) -> dict[str, Any]:
    first = trials[-1].comparison.metrics[0]
    spec = ready.spec
    points = [Point(one.rows, one.comparison.tuned[first.name]) for one in trials]
    ahead = forecast(points, lower=first.lower_is_better, resamples=spec.evaluation.resamples, seed=spec.seed)
    return {
        "metric": first.name, "higher_is_better": not first.lower_is_better, "base": first.figures.base.value,
        "measured_on": measured_on, "held_out_rows": len(ready.test.examples),
        "points": [
            {
                "share": share, "rows": one.rows, "metrics": [m.as_json() for m in one.comparison.metrics],
                "forgetting": one.forgetting, "steps": one.steps, "train_seconds": round(one.train_seconds, 1),
            }
            for share, one in zip(SHARES, trials, strict=True)
        ],
        "forecast": None if ahead is None else {
            "rows": ahead.rows, "value": ahead.value, "gain": ahead.gain.value, "gain_ci95": ahead.gain.pair,
            "words": ahead.words(first.name),
        },
    }  # fmt: skip
