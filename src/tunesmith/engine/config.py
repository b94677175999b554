"""The `training` part of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..core.spec import Spec

Auto = Literal["auto"]
Positive = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class EarlyStoppingSpec(Spec):
    """Stop when the validation loss no longer falls."""

    patience: int = Field(default=3, ge=1)
    """Stop after this many evaluations in a row without a new best."""
    min_delta: float = Field(default=0.0, ge=0.0)
    """A new best must be lower by more than this, in nats a token."""


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
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """How the learning rate goes on after the warm-up; wsd (warm-up, stable, decay) stays, then falls in a line."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """Share of all steps in which a wsd schedule falls, at the end."""
    floor: float = Field(default=0.0, ge=0, lt=1)
    """Where cosine, linear and wsd end, as a share of the peak."""
    warmup: float = Field(default=0.05, ge=0)
    """Steps of linear warm-up: a share of all steps below 1, a number of steps from 1 on."""
    optimizer: Literal["adamw", "adafactor", "muon"] = "adamw"
    """AdamW; Adafactor, which needs little memory; Muon for hidden matrices with AdamW for the rest, whose update is
    scaled to the size of AdamW's, so that the same learning rate fits."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the optimizer's running means of gradients and of their squares."""
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

    @model_validator(mode="after")
    def _one_budget(self) -> TrainingSpec:
        if self.batch_size and self.batch_tokens:
            raise ValueError("give batch_size or batch_tokens, not both")
        return self
