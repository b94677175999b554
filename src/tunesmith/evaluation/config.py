"""The `evaluation` and `gate` parts of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..core.spec import Spec
from .metrics.config import Configured, MetricSpec, PassAtKSpec

Positive = Annotated[int, Field(ge=1)]


class MemorisationSpec(Spec):
    """How much of the training data is looked at for signs of being repeated."""

    rows: int = Field(default=300, ge=2)
    """Training rows, drawn by the seed, whose losses are held against those of the test rows."""
    asked: int = Field(default=50, ge=0)
    """Of these so many are asked: the model answers their prompts, and what comes back word for word is counted."""


class EvaluationSpec(Spec):
    """How base and tuned model are compared on the test rows."""

    metrics: Annotated[tuple[str | MetricSpec, ...], Field(min_length=1)] | Literal["auto"] = "auto"
    """Metrics, the one that counts most first, by name or configured; auto: by the form of the reference answers."""
    max_tokens: Positive | Literal["auto"] = "auto"
    """Longest answer; auto: the longest reference answer and a quarter more."""
    slices: tuple[str, ...] | Literal["auto"] = ()
    """What is also scored apart: metadata fields by their values, and, where no field has that name, `label` (the right
    answer), `length` (of the prompt, in thirds) and `source` (the file); auto: those of the three that tell rows
    apart."""
    resamples: int = Field(default=2000, ge=100)
    """Bootstrap resamples behind each 95 % interval, and permutations behind each test."""

    base: Literal["before", "after"] = "before"
    """When the base is scored: before the training, so that what cannot be scored is told before it; or after it, so
    that it begins at once. Where training changes the base's own weights, always before."""
    skills: bool = True
    """Ask base and tuned model the packaged skill suite, too."""
    memorisation: MemorisationSpec | None = MemorisationSpec()
    """Look for training rows that the tuned model repeats; null: do not."""
    safety: bool = False
    """Ask both models the packaged safety probe: what each refuses of 40 harmful and 40 harmless requests."""
    calibration: bool = False
    """Measure whether both models' certainty is earned: the probability of each answer and, where a metric takes
    answers for labels, of every label, against how often they are right. Of models that write answers."""

    influence: int = Field(default=0, ge=0)
    """Of at most so many lost test rows, those that the base had right first, the most influential training rows are
    told: those whose gradients pull furthest away from the right answer and furthest towards it. Takes a backward pass
    for each of these rows, 20 more and a hundred in all. Of methods that learn rows with one right answer."""

    @model_validator(mode="after")
    def _different_names(self) -> EvaluationSpec:
        names = self.metric_names()
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two metrics are called '{twice}': give one of them another name")
        entries = () if self.metrics == "auto" else self.metrics
        if len({entry.temperature for entry in entries if isinstance(entry, PassAtKSpec) and entry.drawn() > 1}) > 1:
            raise ValueError("metrics of type pass_at_k look at the same drawn answers: give them one temperature")
        return self

    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics, in order; none where they are "auto"."""
        if self.metrics == "auto":
            return ()
        return tuple(entry if isinstance(entry, str) else entry.named() for entry in self.metrics)

    def entries(self, names: Sequence[str]) -> tuple[str | Configured, ...]:
        """These metrics as a recipe would give them: configured as they are in this one."""
        given = () if self.metrics == "auto" else self.metrics
        known = {entry.named(): entry for entry in given if not isinstance(entry, str)}
        return tuple(known.get(name, name) for name in names)


class GateSpec(Spec):
    """What the tuned model must reach to pass."""

    require: dict[str, float] | None = None
    """For each metric the least gain (tuned minus base) that the lower bound of the 95 % interval must reach, which is
    widened where several are named (Holm); of what is better the lower it is, the least fall. None: the first metric's
    lower bound must be above 0, and a test must rule out chance."""
    max_forgetting: float | None = Field(default=0.10, ge=0)
    """Largest rise of the loss on general text, in nats a token; null for no limit."""
    max_skills_lost: float | None = Field(default=None, ge=0, le=1)
    """Largest fall of the share of the packaged skill suite that is right; null for no limit."""
    max_memorised: float | None = Field(default=None, ge=0, le=1)
    """Largest share of the asked training rows of which 50 tokens in a row come back; null for no limit."""
    max_exposure: float | None = Field(default=None, ge=0)
    """Largest exposure of a canary, in bits; needs data.canaries. null for no limit."""
    max_refusals_lost: float | None = Field(default=None, ge=0, le=1)
    """Largest fall of the share of harmful requests that are refused; needs evaluation.safety. null for no limit."""
    max_refusals_gained: float | None = Field(default=None, ge=0, le=1)
    """Largest rise of the share of harmless questions that are refused; needs evaluation.safety. null for no limit."""
