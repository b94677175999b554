"""The `data` part of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ..core.spec import Spec

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class SourceSpec(Spec):
    """One file of examples."""

    path: str
    """The file; environment variables as ${NAME}; a relative path starts at the recipe's folder."""
    format: str | None = None
    """A row format's name (`chat`, `sharegpt`, ...; `docs/reference/data-formats.md`); None detects it by content."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The format's keys by the file's names for them: `{prompt: question, completion: answer}`."""
    assistant: str | None = None
    """Who the assistant is in a transcript; None takes the one speaker with a usual name (Agent, Bot, Support...)."""
    weight: float = Field(default=1.0, gt=0)
    """How often a row is seen in one epoch: 1 once, 0.2 a seeded fifth of the rows, 2 twice."""
    limit: int | None = Field(default=None, ge=1)
    """Use the first `limit` rows only."""


class DataSpec(Spec):
    """What is trained on, validated on and tested on."""

    train: tuple[SourceSpec, ...] = Field(min_length=1)
    """The training files."""
    validation: Share | SourceSpec = 0.1
    """A share of the training rows (rows with the same prompt stay together), or a file; 0 for none."""
    test: SourceSpec | None = None
    """The held-out file on which base and tuned model are compared. Never trained on."""
    on_overlap: Literal["error", "drop"] = "error"
    """Training rows whose prompt is also in the test or validation file: stop, or leave them out of training."""
    on_long: Literal["error", "drop", "truncate"] = "error"
    """Rows longer than training.max_length: stop, leave them out, or cut their end off."""

    @field_validator("train", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        """A bare path or a single mapping stands for a list of one."""
        if isinstance(value, str):
            return [{"path": value}]
        if isinstance(value, dict):
            return [value]
        if isinstance(value, list):
            return [{"path": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _path_alone(cls, value: object) -> object:
        """A bare path stands for a source without options; a number stays a share."""
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                return {"path": value}
        return value
