"""The facts a report shows: frozen records, filled by `pipelines`, read by `render`.

What this module does *not* know: how any figure was measured, and how it will look.

Units: losses and forgetting are nats per token; a "share" lies in 0..1; times are seconds; memory is MiB.
Every figure that follows from two others (a delta, a price, a sum) is a property, so that the page
cannot contradict itself.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from tunesmith.report.base import Count, Facts, Interval, Text, Unit
from tunesmith.report.chart_facts import CertaintyFacts, GrowthFacts
from tunesmith.report.data_facts import AuditFacts

Outcome = Literal["win", "loss", "tie_right", "tie_wrong"]
FitVerdict = Literal["none", "mild", "overfitting", "too_short", "underfit"]
CHANCE = 0.05
"""A difference of a larger p may be chance."""


class GateReason(Facts):
    """One condition of the gate, with its figure and its limit in `text`."""

    ok: bool
    text: Text


class MetricFacts(Facts):
    """One metric of base and tuned model on the same rows.

    `ci95` is the 95 % interval of the difference tuned - base (paired, over rows), in the metric's unit;
    None where none can be computed. unit: "share" (0..1, shown in percent, differences in points),
    "nats" (a loss), "ratio" (any other number without a unit).
    """

    name: Text
    base: float
    tuned: float
    ci95: Interval | None
    higher_is_better: bool = True
    unit: Unit = "share"
    p_value: float | None = None
    """How probable such a difference is by chance; None where no test was made."""

    @property
    def delta(self) -> float:
        """Tuned minus base, in the metric's unit."""
        return self.tuned - self.base

    @property
    def effect(self) -> Literal["gain", "loss", "unclear"]:
        """A gain or a loss only where the whole interval lies on one side of zero, and no test says chance."""
        if self.ci95 is None or (self.p_value is not None and self.p_value > CHANCE):
            return "unclear"
        low, high = self.ci95 if self.higher_is_better else (-self.ci95[1], -self.ci95[0])
        if low > 0:
            return "gain"
        return "loss" if high < 0 else "unclear"


class SliceFacts(Facts):
    """The metrics on the test rows whose `field` has `value`."""

    field: Text
    value: Text
    rows: Count
    metrics: Sequence[MetricFacts]


class WorstSliceFacts(Facts):
    """The slice on which the tuned model's first metric is worst; 95 % intervals of the level and the difference."""

    field: Text
    value: Text
    rows: Count
    metric: Text
    tuned: float
    tuned_ci95: Interval
    delta: float
    ci95: Interval
    clearly_below: bool


class PowerFacts(Facts):
    """The least difference in `metric` that so many rows show four times in five, in its unit; None: none can be."""

    metric: Text
    rows: Count
    detectable: float | None


class BaselineFacts(Facts):
    """A simpler way to the same task (nearest neighbour, few-shot prompt), on the same rows and metric.

    `ci95` is the 95 % interval of the tuned model's score minus this one; None where it is not known.
    """

    name: Text
    metric: Text
    score: float
    ci95: Interval | None = None


class TableFacts(Facts):
    """A table that not every run has. The first cell of a row names it; every cell is ready to be read. `over` says
    what it counts, where that is not the held-out rows."""

    title: Text
    note: Text
    over: Text = ""
    columns: Sequence[Text]
    rows: Sequence[Sequence[Text]]


class WayFacts(Facts):
    """One way to have the task done: its score by the metric that counts with its 95 % interval, tokens and seconds an
    answer, money for 1,000 answers (None where no price is known)."""

    name: Text
    value: float
    ci95: Interval
    tokens_in: float = Field(ge=0)
    tokens_out: float = Field(ge=0)
    seconds: float = Field(ge=0)
    cost: float | None = None
    set_up_seconds: float = Field(default=0.0, ge=0)
    model: Text = ""
    """Base and adapter, or the endpoint's model."""
    memory_mb: float | None = None
    """MiB of the model's weights; None behind an endpoint."""
    break_even: Text = ""
    """After how many answers it has paid for itself, in words."""


class WaysFacts(Facts):
    """Prompt, examples, retrieval, fine-tuning: all on the same rows, and which one to take and why."""

    rows: Count
    metric: Text
    ways: Sequence[WayFacts] = Field(min_length=1)
    take: Text
    reasons: Sequence[Text] = ()


class ForgettingFacts(Facts):
    """Loss on general text that is not the task, before and after (nats per token)."""

    base_loss: float
    tuned_loss: float
    limit: float | None
    """None where the gate sets none."""
    rows: Count
    tokens: Count

    @property
    def delta(self) -> float:
        """Tuned minus base, nats per token; positive means forgotten."""
        return self.tuned_loss - self.base_loss

    @property
    def ok(self) -> bool:
        """Within the limit, where there is one; a loss that is not a number is not."""
        return self.limit is None or self.delta <= self.limit


class RemedyFacts(Facts):
    """One thing to change against forgetting, in words and as lines of the recipe."""

    words: Text
    lines: Text


class AdviceFacts(Facts):
    """What was forgotten, and what may help."""

    why: Sequence[Text] = Field(min_length=1)
    remedies: Sequence[RemedyFacts] = ()


class OverfittingFacts(Facts):
    """The judgement on the loss curves. Losses in nats per token, steps are optimizer steps."""

    verdict: FitVerdict
    best_step: int | None
    last_step: int
    best_validation_loss: float | None
    last_validation_loss: float | None
    last_train_loss: float | None
    explanation: Text


class LossCurves(Facts):
    """(step, loss in nats per token) of training and validation; `kept_step` is the kept checkpoint."""

    train: Sequence[tuple[int, float]] = ()
    validation: Sequence[tuple[int, float]] = ()
    kept_step: int | None = None


class RowFacts(Facts):
    """One test row. `source` is "file:line"; scores are of `ReportFacts.row_metric`, higher is better: a loss has a
    minus. None for what the row does not have: a right answer, answers of the models."""

    index: Count
    source: Text
    prompt: Text
    reference: Text | None
    base_answer: Text | None
    tuned_answer: Text | None
    base_score: float
    tuned_score: float
    outcome: Outcome
    slices: Mapping[Text, Text] = Field(default_factory=dict)
    why: Text = ""
    """Of a wrong answer: what the training rows had for it."""


class OutcomeCounts(Facts):
    """How many test rows the tuned model does better, worse, or alike."""

    wins: Count
    losses: Count
    ties_right: Count
    ties_wrong: Count

    @property
    def total(self) -> int:
        """All test rows."""
        return self.wins + self.losses + self.ties_right + self.ties_wrong


class PhaseTime(Facts):
    """Seconds of wall time in one phase of the run."""

    phase: Text
    seconds: float


class CostFacts(Facts):
    """What the run took. `price_per_hour` is money per hour of wall time, in `currency`."""

    wall_seconds: float
    trained_tokens: Count
    tokens_per_second: float
    peak_memory_mib: float
    energy_wh: float | None = None
    price_per_hour: float | None = None
    currency: Text = "USD"

    @property
    def price(self) -> float | None:
        """Money for the whole run, None where no price per hour is known."""
        return None if self.price_per_hour is None else self.price_per_hour * self.wall_seconds / 3600


class NextCommand(Facts):
    """A command to run next, and what it does."""

    what: Text
    command: Text


class ReportFacts(Facts):
    """All that one report shows. The first metric is the one the verdict speaks of.

    Raises `ValidationError` where the verdict contradicts the gate's conditions, or the outcomes do not
    add up to the test rows: a report that contradicts itself is worse than none.
    """

    name: Text
    run_id: Text
    created: Text
    verdict: Literal["pass", "fail"]
    reasons: Sequence[GateReason] = Field(min_length=1)
    base_name: Text
    method: Text
    adapter: Text
    test_rows: Count
    metrics: Sequence[MetricFacts] = Field(min_length=1)
    power: PowerFacts | None = None
    slices: Sequence[SliceFacts] = ()
    worst_slice: WorstSliceFacts | None = None
    baselines: Sequence[BaselineFacts] = ()
    tables: Sequence[TableFacts] = ()
    certainty: Sequence[CertaintyFacts] = ()
    growth: GrowthFacts | None = None
    ways: WaysFacts | None = None
    forgetting: ForgettingFacts | None = None
    against_forgetting: AdviceFacts | None = None
    overfitting: OverfittingFacts | None = None
    curves: LossCurves = LossCurves()
    row_metric: Text
    outcomes: OutcomeCounts
    rows: Sequence[RowFacts] = ()
    audit: AuditFacts = AuditFacts()
    recipe_yaml: Text
    versions: Mapping[Text, Text] = Field(default_factory=dict)
    fingerprints: Mapping[Text, Text] = Field(default_factory=dict)
    machine: Mapping[Text, Text] = Field(default_factory=dict)
    times: Sequence[PhaseTime] = ()
    cost: CostFacts | None = None
    next_commands: Sequence[NextCommand] = ()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        holds = all(reason.ok for reason in self.reasons)
        if holds != (self.verdict == "pass"):
            found = "all" if holds else "not all"
            raise ValueError(f'the verdict is "{self.verdict}" but {found} conditions hold')
        if self.outcomes.total != self.test_rows:
            raise ValueError(f"outcomes sum to {self.outcomes.total} rows, the test has {self.test_rows}")
        return self
