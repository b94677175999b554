"""The training loop: rows in, trained weights out, exact after any interruption.

It knows no method (an `Objective` gives the loss), no adapter (it gets named parameters), no run directory beyond
the folder for checkpoints. One optimizer step is readable in `_step`. What a step does depends only on the weights,
the optimizer's state, the random state and the step's number; all of these are in a checkpoint, so a resumed run
ends in the same weights as an uninterrupted one, bit for bit on the same CPU.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ..core.errors import ConflictError, InterruptedRunError, ShortageError
from ..core.events import Note, Sink, StepDone, Validated
from ..core.versions import installed
from ..data.batch import Item, Step
from ..data.curriculum import Curriculum
from . import distributed, optim, schedule, shortage
from .checkpoint import Checkpoint, Checkpoints, rng_state, set_rng_state
from .config import TrainingSpec, TrunkCacheSpec
from .distributed import ALONE, World
from .ema import Ema
from .evaluate import Validation, validate
from .gradients import SAME_STEP, Gradients, Measured
from .guards import StepGuard, StopRequest, usual_losses, with_spike
from .memory import out_of_memory
from .metrics_log import MetricsLog, finite
from .objective import Objective
from .steps import SEED_STRIDE, Steps
from .trunk import NOTHING, Kept, Seen, TrunkCache
from .watchdog import Watchdog

_CURVES = ("train_curve", "validation_curve")
_SHADOW = "ema|"
"""Before the names of mean weights among a checkpoint's optimizer tensors."""

_LIBRARIES = ("tunesmith", "torch", "transformers", "tokenizers")
"""Whose versions a checkpoint keeps: another one may compute other last digits, or other tokens."""


@dataclass(frozen=True)
class Plan:
    """Everything a training needs. In `training`, learning_rate and precision are no longer "auto"."""

    model: Any
    trainable: dict[str, Parameter]
    objective: Objective
    train: Sequence[Item]
    repeats: Sequence[int]
    validation: Sequence[Item]
    pad_id: int
    training: TrainingSpec
    seed: int
    folder: Path
    log: MetricsLog
    identity: dict[str, str]
    """What must be equal for a checkpoint to belong to this training: fingerprints by name."""
    sink: Sink
    score: Callable[[], float] | None = None
    """The validation metric that early stopping watches, higher is better; None where it is the loss."""
    world: World = ALONE
    curriculum: Curriculum | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    """Multiples of the learning rate, by the trained parameter's name; 1 where a name is not there."""
    trunk: TrunkCacheSpec | None = None
    """How much may be kept of what frozen lower layers make of the rows; None for nothing."""


@dataclass
class Progress:
    """Where a training stands; the JSON part of a checkpoint."""

    step: int = 0
    tokens: int = 0
    labelled_tokens: int = 0
    seconds: float = 0.0
    """Of the optimizer steps."""
    trunk_tokens: int | None = None
    """Of how many tokens the frozen layers' states are kept; None before that is decided."""
    trunk_seconds: float = 0.0
    """That making them took, after each start."""
    best_step: int | None = None
    best: float | None = None
    """The best validation so far, as a number that is higher when better: minus the loss, or the metric."""
    without_best: int = 0
    parts: int = 1
    """Parts that each micro-batch is cut into, after shortages of memory."""
    skipped: list[int] = field(default_factory=list)
    not_finite: int = 0
    """Steps up to this one that were not finite, one behind the other."""
    spikes: list[int] = field(default_factory=list)
    """Steps whose losses the spike monitor leaves out of what it holds others against."""
    train_curve: list[tuple[int, float]] = field(default_factory=list)
    validation_curve: list[tuple[int, float]] = field(default_factory=list)
    stopped_early: bool = False
    finished: bool = False


@dataclass(frozen=True)
class Outcome:
    """A finished training. The model holds the weights of `kept_step`."""

    progress: Progress
    total_steps: int
    kept_step: int


class Loop:
    """One training from its plan to its outcome."""

    def __init__(self, plan: Plan):
        self.plan = plan
        spec = plan.training
        lengths = [row.length for row in plan.train]
        self._steps = Steps(lengths, plan.repeats, spec, plan.seed, plan.curriculum)
        self.total_steps = self._steps.total
        cadence = self._steps.resolve_cadence(spec)
        self._evaluate_every, self._checkpoint_every = cadence.evaluate_every, cadence.checkpoint_every
        self._checkpoints = Checkpoints(plan.folder, plan.world)
        self._peak_rate = float(spec.learning_rate)
        self._optimizer = optim.build(spec, plan.trainable, plan.model, self._peak_rate, plan.rates)
        self._warmup = schedule.warmup_steps(spec.warmup, self.total_steps)
        self._ema = Ema(spec.ema, plan.trainable) if spec.ema is not None else None
        self._gradients = Gradients(
            plan.model, plan.trainable, plan.objective, plan.train, spec, plan.pad_id, plan.world, self._warn
        )
        self._guard = StepGuard(spec.guards)
        self._watchdog = Watchdog(spec.guards, plan.log.path.parent, self._warn)
        self.progress = Progress()
        self._versions = installed(_LIBRARIES)
        self._saved: int | None = None
        """The step of the newest checkpoint that this training wrote or went on from."""

    def run(self, *, resume: bool) -> Outcome:
        """Train to the end, or raise InterruptedRunError after a checkpoint when a signal came."""
        torch.manual_seed(self.plan.seed + self.plan.world.rank)
        if resume:
            self._restore()
            self._heed_shortage()
        else:
            self.plan.log.rewind(-1)
            self.plan.world.only_main(lambda: shortage.forget(self.plan.folder))
        stop = StopRequest()
        with (
            stop.listening(), self._watchdog.watching(), distributed.peer_loss(), self._noting_shortage(),
            self._trunk_kept(stop),
        ):  # fmt: skip
            for number, step in self._steps.after(self.progress.step):
                if self.progress.finished:
                    break
                self._one(number, step)
                if code := self.plan.world.max(stop.exit_code or 0):
                    self._interrupt(code)
        return self._keep_best()

    def first(self, count: int) -> list[Step]:
        """The rows of so many steps."""
        return [step for _, step in itertools.islice(self._steps.after(0), count)]

    def tried(self, number: int, step: Step) -> float:
        """Seconds that the gradients of a step over these rows take. They are thrown away, and what is drawn afterwards
        is what would have been drawn without."""
        before, began = rng_state(), time.perf_counter()
        with distributed.peer_loss():
            self._gradients.compute(number, step)
        seconds = time.perf_counter() - began
        self._gradients.clear()
        set_rng_state(before)
        return seconds

    @contextmanager
    def _noting_shortage(self) -> Iterator[None]:
        """A shortage inside the block that the others could not be told of is written down for who starts again."""
        try:
            yield
        except ShortageError:
            shortage.note(self.plan.folder, 2 * self._gradients.parts)
            raise

    @contextmanager
    def _trunk_kept(self, stop: StopRequest) -> Iterator[None]:
        """Inside the block the states of frozen lower layers are kept, where the plan admits it and it pays."""
        plan, p = self.plan, self.progress
        if p.finished:
            yield
            return
        began = time.perf_counter()
        cache = TrunkCache.of(plan.model, str(plan.training.precision), plan.pad_id) if plan.trunk else None
        budget = cache.budget(plan.trunk) if cache and plan.trunk else NOTHING
        before = budget.tokens if p.trunk_tokens is None else p.trunk_tokens
        if budget.tokens < before:
            self._warn("less of the frozen layers is kept than before: last digits may differ")
        # More than before would be another choice of rows, and other last digits.
        tokens = min(budget.tokens, before)
        kept = self._filled(cache, budget.memory, tokens, stop) if cache and tokens else None
        if stop.exit_code:
            self._interrupt(stop.exit_code)
        p.trunk_tokens = kept.tokens if kept else 0
        if cache is None or kept is None:
            yield
            return
        p.trunk_seconds += time.perf_counter() - began
        plan.sink(Note(cache.told(kept)))
        with cache.keeping(kept):
            yield

    def _filled(self, cache: TrunkCache, in_memory: int, tokens: int, stop: StopRequest) -> Kept | None:
        """The states of so many tokens; None where no row is seen twice or memory runs out."""
        plan = self.plan

        def go_on() -> bool:
            self._watchdog.alive()
            return not stop.exit_code

        passes = self._steps.passes
        validations = -(-self.total_steps // self._evaluate_every)
        seen = (
            Seen(plan.train, [passes * count for count in plan.repeats]),
            Seen(plan.validation, [float(validations)] * len(plan.validation)),
        )
        try:
            return cache.fill(plan.objective, seen, in_memory, tokens, plan.sink, go_on)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            self._warn("out of memory: nothing of the frozen layers is kept")
            return None

    def _heed_shortage(self) -> None:
        """Cut micro-batches as the processes before this one asked for."""
        parts = self.plan.world.max(shortage.noted(self.plan.folder))
        if parts > self._gradients.parts:
            self._gradients.parts = parts
            self._warn(f"memory ran out before: each micro-batch is now computed in {parts} parts; {SAME_STEP}")

    def _one(self, number: int, step: Step) -> None:
        """A step and what is due behind it. State is saved last, so a checkpoint knows all that came before."""
        started = time.perf_counter()
        measured = self._step(number, step)
        seconds = time.perf_counter() - started
        self._watchdog.beat(seconds)
        self._record(measured, seconds)
        done = number + 1
        last = done == self.total_steps
        if self.plan.validation and (done % self._evaluate_every == 0 or last):
            self._validate()
        self.progress.finished = last or self.progress.stopped_early
        if done % self._checkpoint_every == 0 or self.progress.finished or self.progress.best_step == done:
            self._save()

    def _step(self, number: int, step: Step) -> Measured:
        """One optimizer step (its number from 0): gradients, the guard, the update."""
        self._optimizer.learning_rate = self._rate(number)
        measured = self._gradients.compute(number, step)
        if self._allowed(number, measured):
            self._optimizer.step()
            if self._ema:
                self._ema.update(number)
        else:
            self.progress.skipped.append(number + 1)
        self._gradients.clear()
        self.progress.parts = self._gradients.parts
        return measured

    def _allowed(self, number: int, measured: Measured) -> bool:
        p = self.progress
        allowed = self._guard.allows(
            measured.loss, measured.norm, usual_losses(p.train_curve, p.spikes),
            lambda what: self._warn(f"step {number + 1}: {what}"),
        )  # fmt: skip
        p.not_finite = self._guard.in_a_row
        if self._guard.spiked:
            p.spikes = with_spike(p.spikes, number + 1)
        return allowed

    def _rate(self, number: int) -> float:
        """The learning rate of optimizer step `number` (from 0)."""
        spec = self.plan.training
        shape = spec.schedule
        share = schedule.factor(
            shape.type, number, self.total_steps, self._warmup, decay=shape.decay, floor=shape.floor
        )
        return self._peak_rate * share

    def _record(self, measured: Measured, seconds: float) -> None:
        p = self.progress
        p.step, p.tokens, p.seconds = p.step + 1, p.tokens + measured.tokens, p.seconds + seconds
        p.labelled_tokens += measured.labelled
        p.train_curve.append((p.step, measured.loss))
        rate = self._optimizer.learning_rate
        speed = p.tokens / p.seconds
        self.plan.log.append(
            {"step": p.step, "loss": measured.loss, "learning_rate": rate, "gradient_norm": measured.norm,
             "tokens": measured.tokens, "seconds": round(seconds, 4)} | measured.figures
        )  # fmt: skip
        left = p.seconds / p.step * (self.total_steps - p.step)
        self.plan.sink(StepDone(p.step, self.total_steps, measured.loss, rate, speed, left, seconds))

    def _validate(self) -> None:
        p, stopping = self.progress, self.plan.training.early_stopping
        with self._ema.applied() if self._ema else nullcontext():
            found = validate(
                self.plan.model, self.plan.objective, self.plan.validation, pad_id=self.plan.pad_id,
                number_type=str(self.plan.training.precision), world=self.plan.world, alive=self._watchdog.alive,
                parts=self._gradients.parts,
            )  # fmt: skip
            loss = found.loss
            watched = self._watched(found)
        margin = stopping.min_delta if stopping else 0.0
        best = math.isfinite(watched) and (p.best is None or watched > p.best + margin)
        if best:
            p.best_step, p.best, p.without_best = p.step, watched, 0
        else:
            p.without_best += 1
        p.validation_curve.append((p.step, loss))
        p.stopped_early = bool(stopping and p.without_best >= stopping.patience)
        named = {f"validation_{name}": value for name, value in found.figures.items()}
        named |= {f"validation_{stopping.metric}": watched} if stopping and self.plan.score else {}
        self.plan.log.append({"step": p.step, "validation_loss": loss, **named})
        self.plan.sink(Validated(p.step, loss, best))

    def _watched(self, found: Validation) -> float:
        """What early stopping watches, higher is better: minus the loss, a figure of the method's, or a metric."""
        stopping = self.plan.training.early_stopping
        if self.plan.score:
            with self._watchdog.held():
                return self.plan.world.share(self.plan.score())  # all must stop, or none
        return found.figures[stopping.metric] if stopping and stopping.metric in found.figures else -found.loss

    def _warn(self, text: str) -> None:
        self.plan.sink(Note(text, "warning"))

    def _save(self) -> None:
        p = self.progress
        shadow = {f"{_SHADOW}{name}": value for name, value in self._ema.shadow.items()} if self._ema else {}
        checkpoint = Checkpoint(
            step=p.step,
            trainable={name: parameter.detach() for name, parameter in self.plan.trainable.items()},
            optimizer=self._optimizer.state_tensors() | shadow,
            rng=rng_state(),
            state=self._state(),
        )
        with self._watchdog.held():
            self._checkpoints.save(checkpoint)
            self._checkpoints.prune(self.plan.training.keep_checkpoints, {p.best_step} if p.best_step else set())
        self._saved = p.step

    def _state(self) -> dict[str, Any]:
        p = self.progress
        curves = {name: [(s, finite(v)) for s, v in getattr(p, name)] for name in _CURVES}
        return {
            "progress": asdict(p) | curves,
            "identity": self.plan.identity,
            "threads": torch.get_num_threads(),
            "versions": self._versions,
        }

    def _restore(self) -> None:
        """Continue from the newest whole checkpoint; from the beginning when there is none."""
        checkpoint, complaints = self._checkpoints.newest_valid()
        for complaint in complaints:
            self._warn(complaint)
        if checkpoint is None:
            self.plan.log.rewind(-1)
            return
        self.plan.world.only_main(lambda: self._check_identity(checkpoint.state["identity"]))
        self._tell_differences(checkpoint.state)
        self._put_weights(checkpoint.trainable)
        self._optimizer.load_state_tensors(
            {name: value for name, value in checkpoint.optimizer.items() if not name.startswith(_SHADOW)}
        )
        if self._ema:
            self._ema.load(self._kept_weights(checkpoint))
        if checkpoint.rng:
            set_rng_state(checkpoint.rng)
        else:  # this process has no state from before: draw from a seed that no other has
            torch.manual_seed(self.plan.seed + self.plan.world.rank + SEED_STRIDE * checkpoint.step)
        stored = checkpoint.state["progress"]
        curves = {name: [(int(s), math.nan if v is None else float(v)) for s, v in stored[name]] for name in _CURVES}
        # Older versions kept nothing of frozen layers, and their runs go on so.
        self.progress = p = Progress(**{"trunk_tokens": 0} | stored | curves)
        self._gradients.parts, self._guard.in_a_row, self._saved = p.parts, p.not_finite, p.step
        self.plan.log.rewind(p.step, p.train_curve, p.validation_curve)
        self.plan.sink(Note(f"resumed after step {p.step} of {self.total_steps}"))

    def _tell_differences(self, state: dict[str, Any]) -> None:
        """Warn of what may change last digits."""
        if state["threads"] != torch.get_num_threads():
            self._warn("the number of threads differs from before: last digits may differ too")
        now = self._versions
        before = state.get("versions", now)  # older versions kept none
        others = [f"{name} {before[name]} is now {now.get(name)}" for name in before if before[name] != now.get(name)]
        if others:
            self._warn(f"since the checkpoint was written, {', '.join(others)}: last digits may differ")

    def _check_identity(self, stored: dict[str, str]) -> None:
        # What an older version's checkpoint does not name cannot be compared.
        differing = sorted(key for key, value in stored.items() if self.plan.identity.get(key) != value)
        if differing:
            raise ConflictError(
                f"this run cannot be resumed: changed since its checkpoint: {', '.join(differing)}",
                where=str(self.plan.folder), mend="restore what changed, or start a new run with another --out",
            )  # fmt: skip

    def _put_weights(self, stored: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.plan.trainable.items():
                parameter.copy_(distributed.like(stored[name], parameter))

    def _interrupt(self, exit_code: int) -> None:
        if not self.progress.step:
            raise InterruptedRunError(f"stopped before the first of {self.total_steps} steps", exit_code=exit_code)
        if self._saved != self.progress.step:
            self._save()
        raise InterruptedRunError(
            f"stopped after step {self.progress.step} of {self.total_steps}; a checkpoint is written",
            exit_code=exit_code,
        )

    def _keep_best(self) -> Outcome:
        """Put the best validated weights into the model; the last ones where nothing was validated."""
        p = self.progress
        kept = p.best_step or p.step
        if kept != p.step:
            try:
                self._put_weights(self._kept_weights(self._checkpoints.load(kept)))
            except (ValueError, OSError, KeyError) as error:
                self._warn(f"the best checkpoint step-{kept} is damaged ({error}): the last is kept")
                kept = p.step
        if kept == p.step and self._ema:
            self._put_weights(self._ema.shadow)
        self.plan.model.eval()
        return Outcome(p, self.total_steps, kept)

    def _kept_weights(self, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
        """The weights that were validated: the mean ones where there are such."""
        if not self._ema:
            return checkpoint.trainable
        return {name: checkpoint.optimizer[f"{_SHADOW}{name}"] for name in self.plan.trainable}
