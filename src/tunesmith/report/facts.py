"""The facts a report shows: frozen records, filled by `pipelines`, read by `render`.

What this module does *not* know: how any figure was measured, and how it will look.

Units: losses and forgetting are nats per token; a "share" lies in 0..1; times are seconds; memory is MiB.
Every figure that follows from two others (a delta, a price, a sum) is a property, so that the page
cannot contradict itself.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Unit = Literal["share", "nats", "ratio"]
Outcome = Literal["win", "loss", "tie_right", "tie_wrong"]
FitVerdict = Literal["none", "mild", "overfitting", "too_short", "underfit"]
Severity = Literal["block", "warn", "info"]
Interval = tuple[float, float]
Count = Annotated[int, Field(ge=0)]


def _writable(value: object) -> object:
    """Replace lone surrogates: a model may emit them, and UTF-8 cannot carry them."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


Text = Annotated[str, BeforeValidator(_writable)]


class Facts(BaseModel):
    """Base of all facts: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    @property
    def delta(self) -> float:
        """Tuned minus base, in the metric's unit."""
        return self.tuned - self.base

    @property
    def effect(self) -> Literal["gain", "loss", "unclear"]:
        """A gain or a loss only where the whole interval lies on one side of zero."""
        if self.ci95 is None:
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


class BaselineFacts(Facts):
    """A simpler way to the same task (nearest neighbour, few-shot prompt), on the same rows and metric."""

    name: Text
    metric: Text
    score: float


class TableFacts(Facts):
    """A table that only some methods have. The first cell of a row names it; every cell is ready to be read."""

    title: Text
    note: Text
    columns: Sequence[Text]
    rows: Sequence[Sequence[Text]]


class ForgettingFacts(Facts):
    """Loss on general text that is not the task, before and after (nats per token)."""

    base_loss: float
    tuned_loss: float
    limit: float
    rows: Count
    tokens: Count

    @property
    def delta(self) -> float:
        """Tuned minus base, nats per token; positive means forgotten."""
        return self.tuned_loss - self.base_loss

    @property
    def ok(self) -> bool:
        """Within the limit; a loss that is not a number is not."""
        return self.delta <= self.limit


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


class FileFacts(Facts):
    """One data file. `role` is train, validation, test or general; `sha256` is of its bytes, `root` of its rows."""

    path: Text
    role: Text
    rows: Count
    accepted: Count
    rejected: Count
    format: Text
    sha256: Text
    root: Text | None = None


class FindingFacts(Facts):
    """One finding of the data audit: what it is, how many rows it touches, how to mend it.

    `examples` are the first rows, `shown` what stands there, `waived` the reason for which it does not block.
    """

    code: Text
    severity: Severity
    count: Count
    message: Text
    mend: Text = ""
    examples: Sequence[Text] = ()
    shown: Text = ""
    waived: Text = ""


class TokenFacts(Facts):
    """The training rows in tokens. Lengths are tokens per row; `labelled_tokens` carry loss."""

    rows: Count
    tokens: Count
    labelled_tokens: Count
    length_p50: float
    length_p95: float
    length_max: Count
    truncated_rows: Count


class SupervisionFacts(Facts):
    """How many training examples teach how much; `prompts_*` of the trained prompts compared with served ones."""

    examples: Count
    no_loss: Count
    lost_all: Count
    lost_part: Count
    dropped: Count
    no_end_of_turn: Count
    prompts_compared: Count
    prompts_equal: Count


class LengthFacts(Facts):
    """How long rows are: `bins` of (from, up to, rows) in tokens; `limit` is the longest that is trained whole."""

    bins: Sequence[tuple[int, int, Count]]
    limit: Count | None = None
    over_limit: Count = 0

    @property
    def most(self) -> int:
        """The rows of the fullest bin."""
        return max((rows for _, _, rows in self.bins), default=0)


class AuditFacts(Facts):
    """What was checked in the data before training. The counts are rows, by what was found in them."""

    files: Sequence[FileFacts] = ()
    findings: Sequence[FindingFacts] = ()
    tokens: TokenFacts | None = None
    supervision: SupervisionFacts | None = None
    lengths: LengthFacts | None = None
    duplicates: Mapping[Text, Count] = Field(default_factory=dict)
    leakage: Mapping[Text, Count] = Field(default_factory=dict)
    personal_data: Mapping[Text, Count] = Field(default_factory=dict)

    @property
    def open(self) -> list[FindingFacts]:
        """The findings that are not waived."""
        return [finding for finding in self.findings if not finding.waived]

    @property
    def waived(self) -> list[FindingFacts]:
        """Those that would block, and the reasons for which they do not."""
        return [finding for finding in self.findings if finding.waived]


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
    slices: Sequence[SliceFacts] = ()
    baselines: Sequence[BaselineFacts] = ()
    tables: Sequence[TableFacts] = ()
    forgetting: ForgettingFacts | None = None
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
