"""How difficult the base finds the training rows: the order of a curriculum by `base_loss`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ContentError, MissingError
from ..core.events import Note, Sink
from ..data.curriculum import BASE_LOSS, Curriculum
from ..engine.distributed import World
from ..engine.evaluate import row_losses
from .bench import Bench
from .prepare import Prepared
from .rundir import RunDir

NAME = "base-losses.json"


def curriculum(prepared: Prepared, bench: Bench, run: RunDir, *, world: World, sink: Sink) -> Curriculum | None:
    """The order in which the rows are learned at first; None where the recipe asks for none.

    By `base_loss` the base scores every training row before the first step. The losses are kept in the run's folder:
    a resumed run reads them, so that it goes on in the same order to the last bit.
    """
    spec = prepared.spec.data.curriculum
    if spec is None or spec.by != BASE_LOSS:
        return prepared.curriculum
    return Curriculum.of(spec, world.from_main(lambda: _losses(prepared, bench, run, sink)))


def _losses(prepared: Prepared, bench: Bench, run: RunDir, sink: Sink) -> NDArray[np.float64]:
    """The base's mean loss on each training row [rows], nats a labelled token; nan for a row without any."""
    rows = prepared.train.encoded
    known = _kept(prepared, run) if run.holds_training() else None
    if known is not None:
        return known
    sink(Note(f"the base scores {len(rows):,} training rows, for the order in which they are learned"))
    was_training = bench.model.training
    bench.model.eval()
    if not prepared.spec.adapter.keeps_base:  # nothing is trained yet: the model is the base
        sums, counts = row_losses(bench.model, rows, pad_id=bench.pad_id, number_type=bench.number_type)
    else:
        with bench.as_base():
            sums, counts = row_losses(bench.model, rows, pad_id=bench.pad_id, number_type=bench.number_type)
    bench.model.train(was_training)
    losses: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(rows), np.nan), where=counts > 0)
    kept = [None if np.isnan(loss) else loss for loss in losses.tolist()]
    run.write_json(NAME, {"data": prepared.data_fingerprint, "losses": kept})
    return losses


def _kept(prepared: Prepared, run: RunDir) -> NDArray[np.float64] | None:
    """The losses that an earlier start of this run wrote; None where there are none of these rows."""
    try:
        stored = run.read_json(NAME)
    except (ContentError, MissingError):
        return None
    losses = np.array(stored["losses"], dtype=np.float64)
    return (
        losses if stored["data"] == prepared.data_fingerprint and len(losses) == len(prepared.train.encoded) else None
    )
