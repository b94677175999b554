"""The `evaluation` and `gate` parts of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..core.spec import Spec

Positive = Annotated[int, Field(ge=1)]


class EvaluationSpec(Spec):
    """How base and tuned model are compared on the test rows."""

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["auto"] = "auto"
    """Metric names, the one that counts most first; auto: by the form of the reference answers."""
    max_tokens: Positive | Literal["auto"] = "auto"
    """Longest answer; auto: the longest reference answer and a quarter more."""
    slices: tuple[str, ...] = ()
    """Metadata fields whose values are also scored apart."""
    resamples: int = Field(default=2000, ge=100)
    """Bootstrap resamples behind each 95 % interval."""


class GateSpec(Spec):
    """What the tuned model must reach to pass."""

    require: dict[str, float] | None = None
    """For each metric the least gain (tuned minus base) that the lower bound of the 95 % interval must reach;
    of a loss or perplexity the least fall. None: the first metric's lower bound must be above 0."""
    max_forgetting: float | None = Field(default=0.10, ge=0)
    """Largest rise of the loss on general text, in nats a token; null for no limit."""
