"""The training loop: rows in, trained weights out, exact after any interruption.

It knows no method (an `Objective` gives the loss), no adapter (it gets named parameters), no run directory beyond
the folder for checkpoints. One optimizer step is readable in `_step`. What a step does depends only on the weights,
the optimizer's state, the random state and the step's number; all of these are in a checkpoint, so a resumed run
ends in the same weights as an uninterrupted one, bit for bit on the same CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter

from ..core.errors import ConflictError, InterruptedRunError
from ..core.events import Note, Sink, StepDone, Validated
from ..data.batch import Step, collate
from ..data.tokenize import Encoded
from . import optim, precision, schedule
from .checkpoint import Checkpoint, Checkpoints, rng_state, set_rng_state
from .config import TrainingSpec
from .evaluate import mean_loss
from .guards import FiniteGuard, StopRequest
from .metrics_log import MetricsLog
from .objective import Objective, TorchBatch
from .steps import Steps


@dataclass(frozen=True)
class Plan:
    """Everything a training needs. In `training`, learning_rate and precision are no longer "auto"."""

    model: Any
    trainable: dict[str, Parameter]
    objective: Objective
    train: Sequence[Encoded]
    repeats: Sequence[int]
    validation: Sequence[Encoded]
    pad_id: int
    training: TrainingSpec
    seed: int
    folder: Path
    log: MetricsLog
    identity: dict[str, str]
    """What must be equal for a checkpoint to belong to this training: fingerprints by name."""
    sink: Sink


@dataclass
class Progress:
    """Where a training stands; the JSON part of a checkpoint."""

    step: int = 0
    tokens: int = 0
    labelled_tokens: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_loss: float | None = None
    without_best: int = 0
    skipped: list[int] = field(default_factory=list)
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
        self._steps = Steps([len(row.input_ids) for row in plan.train], plan.repeats, spec, plan.seed)
        self.total_steps = self._steps.total
        cadence = self._steps.resolve_cadence(spec)
        self._evaluate_every, self._checkpoint_every = cadence.evaluate_every, cadence.checkpoint_every
        self._checkpoints = Checkpoints(plan.folder)
        self._peak_rate = float(spec.learning_rate)
        self._optimizer = optim.build(spec, plan.trainable, plan.model, self._peak_rate)
        self._warmup = schedule.warmup_steps(spec.warmup, self.total_steps)
        self._device = next(iter(plan.trainable.values())).device
        self._guard = FiniteGuard()
        self.progress = Progress()

    def run(self, *, resume: bool) -> Outcome:
        """Train to the end, or raise InterruptedRunError after a checkpoint when a signal came."""
        torch.manual_seed(self.plan.seed)
        if resume:
            self._restore()
        else:
            self.plan.log.rewind(-1)
        stop = StopRequest()
        with stop.listening():
            for number, step in self._steps.after(self.progress.step):
                if self.progress.finished:
                    break
                self._one(number, step)
                if stop.exit_code is not None:
                    self._interrupt(stop.exit_code)
        return self._keep_best()

    def _one(self, number: int, step: Step) -> None:
        """A step and what is due behind it. State is saved last, so a checkpoint knows all that came before."""
        started = time.perf_counter()
        loss, norm, tokens = self._step(number, step)
        self._record(loss, norm, tokens, time.perf_counter() - started)
        done = number + 1
        last = done == self.total_steps
        if self.plan.validation and (done % self._evaluate_every == 0 or last):
            self._validate()
        self.progress.finished = last or self.progress.stopped_early
        if done % self._checkpoint_every == 0 or self.progress.finished or self.progress.best_step == done:
            self._save()

    def _step(self, number: int, step: Step) -> tuple[float, float, int]:
        """One optimizer step: (mean loss in nats a labelled token, gradient norm, real tokens)."""
        plan = self.plan
        batches = [collate([plan.train[i] for i in micro], plan.pad_id) for micro in step]
        weight = sum(float(batch.loss_weight.sum()) for batch in batches)
        self._optimizer.learning_rate = self._rate(number)
        plan.model.train()
        total = 0.0
        with precision.context(str(plan.training.precision), plan.model):
            for batch in batches:
                loss = plan.objective.loss_sum(plan.model, TorchBatch.of(batch, self._device))
                torch.autograd.backward(loss / weight)
                total += float(loss.detach())
            extra = plan.objective.regulariser(plan.model, number)
            if extra is not None:
                torch.autograd.backward(extra)
        norm = float(
            torch.nn.utils.clip_grad_norm_(
                plan.trainable.values(), plan.training.clip_norm or float("inf"), foreach=True
            )
        )
        mean = total / weight
        if self._guard.allows(mean, norm):
            self._optimizer.step()
        else:
            self.progress.skipped.append(number + 1)
            plan.sink(Note(f"step {number + 1} skipped: its loss or gradient is not finite", "warning"))
        self._optimizer.zero_grad()
        self.progress.labelled_tokens += int(sum((batch.loss_weight > 0).sum() for batch in batches))
        return mean, norm, sum(batch.tokens for batch in batches)

    def _rate(self, number: int) -> float:
        """The learning rate of optimizer step `number` (from 0)."""
        spec = self.plan.training
        share = schedule.factor(
            spec.schedule, number, self.total_steps, self._warmup, decay=spec.decay, floor=spec.floor
        )
        return self._peak_rate * share

    def _record(self, loss: float, norm: float, tokens: int, seconds: float) -> None:
        p = self.progress
        p.step, p.tokens, p.seconds = p.step + 1, p.tokens + tokens, p.seconds + seconds
        p.train_curve.append((p.step, loss))
        rate = self._optimizer.learning_rate
        speed = p.tokens / p.seconds
        self.plan.log.append(
            {"step": p.step, "loss": loss, "learning_rate": rate, "gradient_norm": norm,
             "tokens": tokens, "seconds": round(seconds, 4)}
        )  # fmt: skip
        left = p.seconds / p.step * (self.total_steps - p.step)
        self.plan.sink(StepDone(p.step, self.total_steps, loss, rate, speed, left))

    def _validate(self) -> None:
        p, spec = self.progress, self.plan.training
        loss = mean_loss(
            self.plan.model, self.plan.objective, self.plan.validation,
            pad_id=self.plan.pad_id, number_type=str(spec.precision),
        )  # fmt: skip
        margin = spec.early_stopping.min_delta if spec.early_stopping else 0.0
        best = math.isfinite(loss) and (p.best_loss is None or loss < p.best_loss - margin)
        if best:
            p.best_step, p.best_loss, p.without_best = p.step, loss, 0
        else:
            p.without_best += 1
        p.validation_curve.append((p.step, loss))
        p.stopped_early = bool(spec.early_stopping and p.without_best >= spec.early_stopping.patience)
        self.plan.log.append({"step": p.step, "validation_loss": loss})
        self.plan.sink(Validated(p.step, loss, best))

    def _save(self) -> None:
        p = self.progress
        checkpoint = Checkpoint(
            step=p.step,
            trainable={name: parameter.detach() for name, parameter in self.plan.trainable.items()},
            optimizer=self._optimizer.state_tensors(),
            rng=rng_state(),
            state={"progress": asdict(p), "identity": self.plan.identity, "threads": torch.get_num_threads()},
        )
        self._checkpoints.save(checkpoint)
        self._checkpoints.prune(self.plan.training.keep_checkpoints, {p.best_step} if p.best_step else set())

    def _restore(self) -> None:
        """Continue from the newest whole checkpoint; from the beginning when there is none."""
        checkpoint, complaints = self._checkpoints.newest_valid()
        for complaint in complaints:
            self.plan.sink(Note(complaint, "warning"))
        if checkpoint is None:
            self.plan.log.rewind(-1)
            return
        self._check_identity(checkpoint.state["identity"])
        if checkpoint.state["threads"] != torch.get_num_threads():
            self.plan.sink(Note("the number of threads differs from before: last digits may differ too", "warning"))
        self._put_weights(checkpoint)
        self._optimizer.load_state_tensors(checkpoint.optimizer)
        set_rng_state(checkpoint.rng)
        stored = checkpoint.state["progress"]
        stored["train_curve"] = [(int(s), float(v)) for s, v in stored["train_curve"]]
        stored["validation_curve"] = [(int(s), float(v)) for s, v in stored["validation_curve"]]
        self.progress = Progress(**stored)
        self.plan.log.rewind(self.progress.step)
        self.plan.sink(Note(f"resumed after step {self.progress.step} of {self.total_steps}"))

    def _check_identity(self, stored: dict[str, str]) -> None:
        mine = self.plan.identity
        differing = sorted(key for key in stored.keys() | mine.keys() if stored.get(key) != mine.get(key))
        if differing:
            raise ConflictError(
                f"this run cannot be resumed: changed since its checkpoint: {', '.join(differing)}",
                where=str(self.plan.folder), mend="restore what changed, or start a new run with another --out",
            )  # fmt: skip

    def _put_weights(self, checkpoint: Checkpoint) -> None:
        with torch.no_grad():
            for name, parameter in self.plan.trainable.items():
                parameter.copy_(checkpoint.trainable[name])

    def _interrupt(self, exit_code: int) -> None:
        if self._checkpoints.steps()[-1:] != [self.progress.step]:
            self._save()
        raise InterruptedRunError(
            f"stopped after step {self.progress.step} of {self.total_steps}; a checkpoint is written",
            exit_code=exit_code,
        )

    def _keep_best(self) -> Outcome:
        """Put the weights with the lowest validation loss into the model; the last ones where none was measured."""
        p = self.progress
        kept = p.best_step or p.step
        if kept != p.step:
            try:
                self._put_weights(self._checkpoints.load(kept))
            except (ValueError, OSError, KeyError) as error:
                self.plan.sink(
                    Note(f"the best checkpoint step-{kept} is damaged ({error}): the last is kept", "warning")
                )
                kept = p.step
        self.plan.model.eval()
        return Outcome(p, self.total_steps, kept)
