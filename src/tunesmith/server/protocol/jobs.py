"""Fine-tuning jobs on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from .common import Ask, Name, Reply, Text

METHODS = ("supervised", "dpo", "reinforcement")


def _auto(kind: type, low: float, high: float, above: bool = False) -> Callable[[Any], Any]:
    """A check for "auto" or a number from `low` (or above it) to `high`."""

    def check(value: Any) -> Any:
        if value == "auto":
            return value
        number = isinstance(value, int | float if kind is float else int) and not isinstance(value, bool)
        if not number:
            raise ValueError(f"expected {'a number' if kind is float else 'an integer'} or 'auto'")
        if not (low < value if above else low <= value) or not value <= high:
            bound = "greater than" if above else "at least"
            raise ValueError(
                f"must be {bound} {low:g} and at most {high:g}" if high < 1e300 else f"must be {bound} {low:g}"
            )
        return value

    return check


def _schema(kind: str, **bounds: float) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "string", "const": "auto"}, {"type": kind, **bounds}], "default": "auto"})


BatchSize = Annotated[
    int | Literal["auto"], PlainValidator(_auto(int, 1, 256)), _schema("integer", minimum=1, maximum=256)
]
Epochs = Annotated[int | Literal["auto"], PlainValidator(_auto(int, 1, 50)), _schema("integer", minimum=1, maximum=50)]
Rate = Annotated[
    float | Literal["auto"], PlainValidator(_auto(float, 0, 1e300, above=True)),
    _schema("number", exclusiveMinimum=0, maximum=1e300),
]  # fmt: skip
Beta = Annotated[
    float | Literal["auto"], PlainValidator(_auto(float, 0, 2, above=True)),
    _schema("number", exclusiveMinimum=0, maximum=2),
]  # fmt: skip


class Hyperparameters(Ask):
    """What all methods take; "auto" is resolved by the rules that docs/jobs.md states."""

    batch_size: BatchSize = "auto"
    learning_rate_multiplier: Rate = "auto"
    n_epochs: Epochs = "auto"


class DpoHyperparameters(Hyperparameters):
    """Those of dpo."""

    beta: Beta = "auto"


class Supervised(Ask):
    """Learning from examples."""

    hyperparameters: Hyperparameters | None = None


class Dpo(Ask):
    """Learning from preferred and not preferred answers."""

    hyperparameters: DpoHyperparameters | None = None


class Method(Ask):
    """How to learn. Some clients send all three sub-objects: the one that `type` names counts, the rest is ignored."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_its_own(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") in METHODS:
            return {key: item for key, item in value.items() if key not in METHODS or key == value["type"]}
        return value


class Wandb(Ask):
    """A project at Weights & Biases."""

    project: Text
    name: Text | None = None
    entity: Text | None = None
    tags: list[Text] | None = None


class Integration(Ask):
    """Another place for metrics."""

    type: Literal["wandb"]
    wandb: Wandb


Key = Annotated[Text, Field(max_length=64)]
Value = Annotated[Text, Field(max_length=512)]
Metadata = Annotated[dict[Key, Value], Field(max_length=16)]


class JobRequest(Ask):
    """A job to create."""

    model: Name
    training_file: Name
    validation_file: Name | None = None
    suffix: Text | None = Field(default=None, min_length=1, max_length=64)
    seed: int | None = Field(default=None, ge=0, le=2_147_483_647)
    integrations: list[Integration] | None = Field(default=None, max_length=5)
    metadata: Metadata | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    """Deprecated: those of `method` win over them."""


class JobError(Reply):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class JobMethod(Reply):
    """The method with its hyper-parameters, as far as they are resolved."""

    type: str
    supervised: dict[str, Any] | None = None
    dpo: dict[str, Any] | None = None


class Job(Reply):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal[
        "validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"
    ]  # fmt: skip
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    hyperparameters: dict[str, Any]
    error: JobError | None
    seed: int
    estimated_finish: int | None = None
    integrations: list[dict[str, Any]] | None = None
    method: JobMethod
    metadata: dict[str, str] | None = None
    user_provided_suffix: str | None = None


class Event(Reply):
    """A line of a job's story."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None = None


class Checkpoint(Reply):
    """A model as it was after a step."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, float]


class PermissionRequest(Ask):
    """Projects that may use a checkpoint."""

    project_ids: list[Name] = Field(min_length=1, max_length=100)


class Permission(Reply):
    """A project that may use a checkpoint."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str
