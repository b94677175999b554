"""The `training` part of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..core.spec import NamedSpec, Spec

Auto = Literal["auto"]
Positive = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class EarlyStoppingSpec(Spec):
    """Stop when the validation rows no longer get better."""

    patience: int = Field(default=3, ge=1)
    """Stop after this many evaluations in a row without a new best."""
    min_delta: float = Field(default=0.0, ge=0.0)
    """A new best must be better by more than this: nats a token for the loss, else the metric's own unit."""
    metric: str = "loss"
    """What is watched, and what the kept checkpoint is best in: the loss, or a metric by its name (exact_match, ...),
    for which the validation rows are answered."""


class ScheduleSpec(NamedSpec):
    """How the learning rate goes on after the warm-up. `schedule: cosine` is short for `schedule: {type: cosine}`."""

    type: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """wsd (warm-up, stable, decay) stays at the peak, then falls in a line."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """Share of all steps in which a wsd schedule falls, at the end."""
    floor: float = Field(default=0.0, ge=0, lt=1)
    """Where cosine, linear and wsd end, as a share of the peak."""


class OptimizerSpec(NamedSpec):
    """What turns gradients into updates. `optimizer: muon` is short for `optimizer: {type: muon}`."""

    type: Literal["adamw", "adamw8bit", "adafactor", "muon"] = "adamw"
    """AdamW; AdamW with its state in 8 bits, a quarter of the memory; Adafactor, which needs less still; Muon for
    hidden matrices with AdamW for the rest, whose update is scaled to the size of AdamW's, so that the same learning
    rate fits."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of AdamW's running means of gradients and of their squares."""


class GuardSpec(Spec):
    """What is done when a training goes wrong. Never are weights updated from a number that is not finite."""

    non_finite: Literal["skip", "stop"] = "skip"
    """A loss or gradient that is not finite: leave out the step and say so (ten in a row end the run), or stop."""
    spike: Literal["note", "skip", "stop"] = "note"
    """A loss far above those before: say so, leave out the step as well, or stop."""
    spike_sigmas: float = Field(default=6.0, gt=0)
    """How far: standard deviations above the mean of the last 128 steps."""
    hang: Literal["dump", "stop"] = "dump"
    """No step in ten times the usual time: write every thread's stack into the run's folder, or end with 75 as well."""
    hang_minutes: float = Field(default=5.0, gt=0)
    """A hang is at least this long."""


class TrunkCacheSpec(Spec):
    """Where lower layers learn nothing (`adapter: {type: lora, last: N}`, `{type: layers, last: N}`), what they make of
    a row is computed once and kept; every later pass over it pays for the layers above alone."""

    memory_mb: Annotated[int, Field(ge=0)] | Auto = "auto"
    """MiB that may be kept in memory; auto: an eighth of the machine's. Rows beyond are computed in every pass."""
    disk_mb: int = Field(default=0, ge=0)
    """MiB more that may be kept in a temporary file, which is gone with the process."""


class DevicesSpec(Spec):
    """How the work lies in memory and on processes. Changes no result beyond the last digits."""

    strategy: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: a whole model in each, gradients averaged once a step (DDP); or weights, gradients and
    optimizer state in shares (FSDP2)."""
    activation_checkpointing: bool | Auto = "auto"
    """Compute activations again in the backward pass instead of keeping them: less memory, more time; auto: where the
    forecast of a run says that memory would not suffice otherwise."""
    trunk_cache: TrunkCacheSpec | None = TrunkCacheSpec()
    """Hidden states of the frozen lower layers, kept for later epochs and validations; null for none. For one process,
    and where a row is seen more than once."""


class TrainingSpec(Spec):
    """How long, how fast and in what portions is learned."""

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training rows."""
    max_steps: Positive | None = None
    """At most this many optimizer steps, whatever the epochs."""
    batch_size: Positive | None = None
    """Rows of a micro-batch. None: as many as batch_tokens admits."""
    batch_tokens: Positive | None = None
    """Tokens of a micro-batch, padding included. With neither given, batch_size is 16."""
    gradient_accumulation: Positive = 1
    """Micro-batches of one optimizer step."""
    max_length: Positive | Auto = "auto"
    """Longest row in tokens; auto: what the base takes, at most 4096."""
    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Peak learning rate; auto: 2e-4 beside a frozen base, 2e-5 for full fine-tuning."""
    schedule: ScheduleSpec = ScheduleSpec()
    """How the learning rate goes on after the warm-up: cosine, linear, constant or wsd."""
    warmup: float = Field(default=0.05, ge=0)
    """Steps of linear warm-up: a share of all steps below 1, a number of steps from 1 on."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """adamw, adamw8bit, adafactor or muon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of hidden matrices; biases, norms, embeddings and the head have none."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm; None for no clipping."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Type of weights and activations; auto: bf16 where the machine is fast in it."""
    evaluate_every: Positive | Auto = "auto"
    """Optimizer steps between validations; auto: about ten in a training."""
    checkpoint_every: Positive | Auto = "auto"
    """Optimizer steps between checkpoints; auto: at each validation."""
    keep_checkpoints: int = Field(default=2, ge=2)
    """Newest checkpoints kept, besides the best one."""
    early_stopping: EarlyStoppingSpec | None = EarlyStoppingSpec()
    """When to stop before the end; null for never. Without validation rows it has no effect."""
    ema: Beta | None = None
    """Decay of a running mean of the weights (0.999, ...), which is then what is validated and kept; null for none."""
    guards: GuardSpec = GuardSpec()
    """What is done when a training goes wrong."""
    devices: DevicesSpec = DevicesSpec()
    """How the work lies in memory and on processes."""

    @model_validator(mode="after")
    def _one_budget(self) -> TrainingSpec:
        if self.batch_size and self.batch_tokens:
            raise ValueError("give batch_size or batch_tokens, not both")
        return self
