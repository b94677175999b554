"""Two models on the same rows: every metric with its interval, and what happened to every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example, is_json_object
from .config import EvaluationSpec
from .metrics import Metric, named
from .metrics.base import Unit
from .metrics.over_rows import Scored, lower_is_better, of_mean, ratio, scored, unit
from .power import Power, power
from .run import Answers
from .significance import Difference, difference
from .slices import Part, parts
from .stats import LEVEL, Paired, bootstrap

Outcome = Literal["win", "loss", "tie_right", "tie_wrong"]
LOSSES = ("loss", "perplexity")
"""What is told of every model, answers or not."""
LOWER_IS_BETTER = {*LOSSES}
UNITS: dict[str, Unit] = {"loss": "nats", "perplexity": "ratio"}


@dataclass(frozen=True)
class MetricResult:
    """A metric of both models. For loss and perplexity lower is better, and where `lower` says so."""

    name: str
    figures: Paired
    chance: Difference | None = None
    """How probable such a difference is by chance; None where no test was made."""
    lower: bool = False
    unit: Unit = "share"

    @property
    def lower_is_better(self) -> bool:
        """The direction of the metric."""
        return self.lower or self.name in LOWER_IS_BETTER

    def gain_low(self, level: float = LEVEL) -> float:
        """The lower bound of the improvement, whichever direction the metric has; 0.05 is that of the 95 % interval."""
        delta = self.figures.delta_at(level)
        return -delta.high if self.lower_is_better else delta.low

    def beyond_chance(self) -> bool:
        """Whether a test, where one was made, rules out chance at 5 %: of very few rows an interval tells less."""
        return self.chance is None or self.chance.p_value <= LEVEL

    def as_json(self) -> dict[str, object]:
        """One entry of `metrics` in evaluation.json."""
        f = self.figures
        return {
            "name": self.name, "base": f.base.value, "tuned": f.tuned.value, "delta": f.delta.value,
            "ci95": f.delta.pair, "base_ci95": f.base.pair, "tuned_ci95": f.tuned.pair,
            "p_value": self.chance.p_value if self.chance else None, "test": self.chance.test if self.chance else None,
            "higher_is_better": not self.lower_is_better, "unit": UNITS.get(self.name, self.unit),
        }  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """The rows whose metadata `field` has `value`, or that are alike otherwise, see `slices`."""

    field: str
    value: str
    rows: int
    metrics: list[MetricResult]


@dataclass(frozen=True)
class Comparison:
    """Base and tuned model on the same rows. Score arrays are [rows], of the first metric, with a minus where lower is
    better; `right` is the score of a row that is right."""

    rows: int
    metrics: list[MetricResult]
    slices: list[Slice]
    row_metric: str
    base_scores: NDArray[np.float64]
    tuned_scores: NDArray[np.float64]
    parts: list[Part]
    """The rows of each slice, in the order of `slices`."""
    tuned: Mapping[str, Scored]
    """What the tuned model reaches, by the metrics' names."""
    right: float = 1.0
    power: Power | None = None
    """What the first metric could have shown on so many rows."""

    def slices_of(self, row: int) -> dict[str, str]:
        """The slices that a row belongs to."""
        return {part.field: part.value for part in self.parts if row in part}

    def outcome(self, row: int) -> Outcome:
        """Whether the tuned model answered this row better, worse or alike."""
        base, tuned = self.base_scores[row], self.tuned_scores[row]
        if tuned != base:
            return "win" if tuned > base else "loss"
        return "tie_right" if tuned == self.right else "tie_wrong"

    def counts(self) -> dict[Outcome, int]:
        """How many rows had each outcome."""
        counts: dict[Outcome, int] = {"win": 0, "loss": 0, "tie_right": 0, "tie_wrong": 0}
        for row in range(self.rows):
            counts[self.outcome(row)] += 1
        return counts


def resolve_metrics(spec: EvaluationSpec, references: Sequence[str]) -> list[Metric]:
    """The metrics of a recipe; "auto" becomes those that fit the form of the reference answers."""
    if spec.metrics != "auto":
        return [named(entry) for entry in spec.metrics]
    as_json = bool(references) and all(is_json_object(text) for text in references)
    names = ("exact_match", "json_valid", "field_f1") if as_json else ("exact_match", "token_f1", "rouge_l")
    return [named(name) for name in names]


Scores = NDArray[np.float64]
BothScores = tuple[Scores, Scores]
"""Of base and tuned model, [rows] each."""


@dataclass(frozen=True)
class _Measure:
    """One metric of both models on all rows."""

    base: Scored
    tuned: Scored
    lower: bool = False
    unit: Unit = "share"

    def result(self, name: str, rows: NDArray[np.int64], spec: EvaluationSpec, seed: int) -> MetricResult:
        """Of some of the rows."""
        both = self.base.of(rows), self.tuned.of(rows)
        chance = difference(*both, permutations=spec.resamples, seed=seed)
        return MetricResult(name, bootstrap(*both, resamples=spec.resamples, seed=seed), chance, self.lower, self.unit)


def compare(
    examples: Sequence[Example],
    base: Answers,
    tuned: Answers,
    metrics: Sequence[Metric],
    spec: EvaluationSpec,
    seed: int,
    measured: Mapping[str, BothScores] | None = None,
) -> Comparison:
    """Score both models' answers and draw the intervals; loss and perplexity are always there.

    `measured` are scores that do not come from answers, by name. `spec.metrics` names the order of all.
    """
    found = {m.name: _measure(m, base, tuned, examples) for m in metrics}
    found |= {name: _Measure(of_mean(b), of_mean(t)) for name, (b, t) in (measured or {}).items()}
    wanted = spec.metric_names() or [*found]
    measures = {name: found[name] for name in wanted} | _losses(base, tuned)
    first = next(iter(wanted), "loss")
    counts = measures[first]
    sign = -1 if counts.lower else 1
    everything, sliced = np.arange(len(examples)), parts(examples, spec.slices)
    results = _results(measures, everything, spec, seed)
    return Comparison(
        rows=len(examples),
        metrics=results,
        slices=[
            Slice(part.field, part.value, len(part.rows), _results(measures, part.rows, spec, seed)) for part in sliced
        ],
        row_metric=first,
        base_scores=sign * counts.base.rows,
        tuned_scores=sign * counts.tuned.rows,
        parts=sliced,
        tuned={name: measure.tuned for name, measure in measures.items()},
        right=0.0 if counts.lower and counts.unit == "share" else 1.0,
        power=power(first, results[0].figures, share=results[0].as_json()["unit"] == "share"),
    )


def _measure(metric: Metric, base: Answers, tuned: Answers, examples: Sequence[Example]) -> _Measure:
    before, after = (scored(metric, answers.texts, examples, answers.drawn) for answers in (base, tuned))
    return _Measure(before, after, lower_is_better(metric), unit(metric))


def _losses(base: Answers, tuned: Answers) -> dict[str, _Measure]:
    """Loss and perplexity, a token; both models are asked the same tokens."""
    counts = base.label_counts.astype(np.float64)

    def of(answers: Answers, figure: Callable[[Scores], Scores]) -> Scored:
        return Scored(answers.losses(), of_mean(answers.loss_sums, counts).statistics, figure)

    return {
        name: _Measure(of(base, figure), of(tuned, figure), lower=True, unit=UNITS[name])
        for name, figure in (("loss", ratio), ("perplexity", _exp_ratio))
    }


def _exp_ratio(sums: Scores) -> Scores:
    exponential: Scores = np.exp(ratio(sums))
    return exponential


def _results(
    measures: Mapping[str, _Measure], rows: NDArray[np.int64], spec: EvaluationSpec, seed: int
) -> list[MetricResult]:  # fmt: skip
    return [measure.result(name, rows, spec, seed) for name, measure in measures.items()]
