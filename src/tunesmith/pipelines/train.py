"""Prepared data and a bench to trained weights in the run's folder."""

from __future__ import annotations

from ..core.events import Sink
from ..engine import memory
from ..engine.loop import Loop, Outcome, Plan
from ..engine.metrics_log import MetricsLog
from . import bench as benches
from .bench import Bench
from .prepare import Prepared
from .rundir import RunDir


def train(prepared: Prepared, bench: Bench, run: RunDir, *, resume: bool, sink: Sink) -> Outcome:
    """Train to the end and write `adapter/` or `model/`. InterruptedRunError after a signal, with a checkpoint."""
    spec = prepared.spec
    method = spec.method.build()
    method.prepare(bench.model, bench.adapter, bench.tokenizer, spec.seed)
    plan = Plan(
        model=bench.model,
        trainable=bench.adapter.parameters(),
        objective=method,
        train=prepared.train.encoded,
        repeats=prepared.repeats,
        validation=prepared.validation.encoded,
        pad_id=bench.pad_id,
        training=spec.training,
        seed=spec.seed,
        folder=run.checkpoints,
        log=MetricsLog(run.metrics),
        identity=identity(prepared),
        sink=sink,
    )
    outcome = Loop(plan).run(resume=resume)
    benches.save(bench, run)
    progress = outcome.progress
    run.update(
        status="trained",
        steps=progress.step,
        planned_steps=outcome.total_steps,
        kept_step=outcome.kept_step,
        stopped_early=progress.stopped_early,
        skipped_steps=progress.skipped,
        trained_tokens=progress.tokens,
        labelled_tokens=progress.labelled_tokens,
        train_seconds=round(progress.seconds, 2),
        tokens_per_s=round(progress.tokens / progress.seconds, 1) if progress.seconds else 0.0,
        peak_memory_mb=memory.peak_mb(),
    )
    return outcome


def identity(prepared: Prepared) -> dict[str, str]:
    """What must not change between a checkpoint and its continuation."""
    return {
        "recipe": prepared.spec.training_fingerprint(),
        "data": prepared.data_fingerprint,
        "base": prepared.base.fingerprint(),
        "tokenizer": prepared.base.tokenizer_fingerprint(),
    }
