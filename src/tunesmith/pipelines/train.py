"""Prepared data and a bench to trained weights in the run's folder."""

from __future__ import annotations

from collections.abc import Callable

from ..core import fingerprints
from ..core.errors import ContentError
from ..core.events import Sink, silent
from ..engine import distributed, memory
from ..engine.config import TrunkCacheSpec
from ..engine.distributed import ALONE, World
from ..engine.loop import Loop, Outcome, Plan
from ..engine.metrics_log import MetricsLog, NoLog
from ..evaluation.metrics import find
from ..evaluation.metrics.over_rows import lower_is_better, scored
from ..evaluation.run import TestSet, answer_rows
from ..methods.base import Scene
from ..methods.sft.config import SftSpec
from . import bench as benches
from .bench import Bench
from .difficulty import curriculum
from .prepare import Prepared
from .rundir import RunDir


def train(
    prepared: Prepared, bench: Bench, run: RunDir, *, resume: bool, sink: Sink, world: World = ALONE,
    before: Callable[[Loop], None] | None = None,
) -> tuple[Outcome, Bench]:  # fmt: skip
    """Train to the end and write `adapter/` or `model/`. InterruptedRunError after a signal, with a checkpoint.

    `before` is called with the loop before its first step. The bench that comes back holds the trained model: another
    one where FSDP had shared out the first, and then in rank 0 only.
    """
    spec = prepared.spec
    order = curriculum(prepared, bench, run, world=world, sink=sink)
    method = spec.method.build()
    scene = Scene(
        bench.model, bench.adapter, bench.tokenizer, spec.seed, prepared.train.encoded, prepared.validation.encoded,
        bench.number_type, run.path, fingerprints.of_object(identity(prepared)), sink, world, prepared.train.examples,
        int(spec.training.max_length), run.date(),
    )  # fmt: skip
    learned = method.prepare(scene)
    repeats = prepared.repeats
    if learned.places is not None:
        repeats = [repeats[i] for i in learned.places]
        order = order.pick(learned.places) if order else None
    _arrange(prepared, bench, world)
    plan = Plan(
        model=bench.model,
        trainable=bench.adapter.parameters(),
        objective=method,
        train=learned.train,
        repeats=repeats,
        validation=learned.validation,
        pad_id=bench.pad_id,
        training=spec.training,
        seed=spec.seed,
        folder=run.checkpoints,
        log=MetricsLog(run.metrics) if world.main else NoLog(run.metrics),
        identity=identity(prepared),
        sink=sink if world.main else silent,
        score=_validation_metric(prepared, bench),
        world=world,
        curriculum=order,
        rates=bench.adapter.rates(),
        trunk=_trunk_cache(prepared, world),
    )
    trained = sum(parameter.numel() for parameter in plan.trainable.values())
    loop = Loop(plan)
    if world.main:
        run.update(planned_steps=loop.total_steps)  # who watches the folder knows how far it is
    if before:
        before(loop)
    outcome = loop.run(resume=resume)
    bench = _gathered(prepared, bench, world)
    if world.main:
        benches.save(bench, run)
        run.update(status="trained", trained_parameters=trained, **learned.facts, **_facts(outcome))
    return outcome, bench


def require_possible(prepared: Prepared, world: World) -> None:
    """ContentError for what cannot be trained in this many processes."""
    training = prepared.spec.training
    if world.size > 1 and training.devices.strategy == "fsdp" and training.optimizer.type != "adamw":
        raise ContentError(
            f"the optimizer {training.optimizer.type} does not work on weights that FSDP shares out",
            where="training.optimizer",
            mend="set training.optimizer: adamw, or training.devices.strategy: ddp",
        )


def identity(prepared: Prepared) -> dict[str, str]:
    """What must not change between a checkpoint and its continuation."""
    return {
        "recipe": prepared.spec.training_fingerprint(),
        "data": prepared.data_fingerprint,
        "base": prepared.base.fingerprint(),
        "tokenizer": prepared.base.tokenizer_fingerprint(),
        "tokens": prepared.tokens_fingerprint,
    } | ({"teacher": prepared.teacher} if prepared.teacher else {})


def _arrange(prepared: Prepared, bench: Bench, world: World) -> None:
    """Lay the model out as the recipe's `devices` say."""
    devices = prepared.spec.training.devices
    if devices.activation_checkpointing is True:
        # transformers renamed it within 5; the older name still warns.
        new = hasattr(bench.model, "activation_checkpointing_enable")
        name = "activation_checkpointing" if new else "gradient_checkpointing"
        getattr(bench.model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
        # It asks for gradients by the embeddings, which only reentrant checkpointing needs: frozen layers would learn.
        bench.model.disable_input_require_grads()
    if devices.strategy == "fsdp":
        distributed.shard(bench.model, world)


def _trunk_cache(prepared: Prepared, world: World) -> TrunkCacheSpec | None:
    """How much of frozen lower layers may be kept. Nothing for several processes, each of which would make the states
    of all rows to meet a share of them; nothing under NEFTune, whose noise makes each pass another."""
    noisy = isinstance(prepared.spec.method, SftSpec) and prepared.spec.method.neftune_alpha
    return None if world.size > 1 or noisy else prepared.spec.training.devices.trunk_cache


def _gathered(prepared: Prepared, bench: Bench, world: World) -> Bench:
    """In rank 0 a bench whose model lies whole. Every process takes part, one parameter at a time."""
    if not distributed.is_sharded(bench.model):
        return bench
    trained = {}
    for name, parameter in bench.adapter.parameters().items():
        gathered = distributed.whole(parameter.detach())
        if world.main:
            trained[name] = gathered.cpu()
    if not world.main:
        return bench
    fresh = benches.build(prepared.spec, prepared.base, prepared.tokenizer)
    for name, parameter in fresh.adapter.parameters().items():
        parameter.data.copy_(trained[name])
    fresh.model.eval()
    return fresh


def _validation_metric(prepared: Prepared, bench: Bench) -> Callable[[], float] | None:
    """Answers the validation rows and gives the metric that early stopping watches, negative where lower is better;
    None for the loss."""
    stopping = prepared.spec.training.early_stopping
    told = ("loss", *prepared.spec.method.figures)
    if stopping is None or stopping.metric in told or not prepared.validation.examples:
        return None
    watched = {metric.name: metric for metric in prepared.metrics}.get(stopping.metric)
    metric, rows = watched or find(stopping.metric, (), "training.early_stopping.metric"), prepared.validation
    test = TestSet.of(rows.examples, rows.encoded, bench.tokenizer)

    longest = round(1.25 * max(e.labelled for e in rows.encoded)) + 8

    def score() -> float:
        answers = answer_rows(
            bench.model, bench.tokenizer, test, max_tokens=longest, stop_ids=bench.stop_ids,
            context=bench.context, number_type=bench.number_type,
        )  # fmt: skip
        value = scored(metric, answers.texts, rows.examples).value
        return -value if lower_is_better(metric) else value

    return score


def _facts(outcome: Outcome) -> dict[str, object]:
    """What `run.json` keeps of a training."""
    progress = outcome.progress
    seconds = progress.seconds + progress.trunk_seconds
    return {
        "steps": progress.step,
        "planned_steps": outcome.total_steps,
        "kept_step": outcome.kept_step,
        "stopped_early": progress.stopped_early,
        "skipped_steps": progress.skipped,
        "trained_tokens": progress.tokens,
        "labelled_tokens": progress.labelled_tokens,
        "train_seconds": round(seconds, 2),
        "trunk_seconds": round(progress.trunk_seconds, 2),
        "tokens_per_s": round(progress.tokens / seconds, 1) if seconds else 0.0,
        "peak_memory_mb": memory.peak_mb(),
        "peak_gpu_memory_mb": memory.gpu_peak_mb(),
    }
