"""Two models on the same rows: every metric with its interval, and what happened to every row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example
from .config import EvaluationSpec
from .metrics import Metric, named
from .run import Answers
from .stats import Paired, paired_bootstrap

Outcome = Literal["win", "loss", "tie_right", "tie_wrong"]
LOWER_IS_BETTER = {"loss", "perplexity"}
UNITS = {"loss": "nats", "perplexity": "ratio"}


@dataclass(frozen=True)
class MetricResult:
    """A metric of both models. For loss and perplexity lower is better."""

    name: str
    figures: Paired

    @property
    def lower_is_better(self) -> bool:
        """The direction of the metric."""
        return self.name in LOWER_IS_BETTER

    def gain_low(self) -> float:
        """The lower bound of the improvement, whichever direction the metric has."""
        return -self.figures.delta.high if self.lower_is_better else self.figures.delta.low

    def as_json(self) -> dict[str, object]:
        """One entry of `metrics` in evaluation.json."""
        f = self.figures
        return {
            "name": self.name, "base": f.base.value, "tuned": f.tuned.value, "delta": f.delta.value,
            "ci95": f.delta.pair, "base_ci95": f.base.pair, "tuned_ci95": f.tuned.pair,
            "higher_is_better": not self.lower_is_better, "unit": UNITS.get(self.name, "share"),
        }  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """The rows whose metadata `field` has `value`."""

    field: str
    value: str
    rows: int
    metrics: list[MetricResult]


@dataclass(frozen=True)
class Comparison:
    """Base and tuned model on the same rows. Score arrays are [rows], of the first metric."""

    rows: int
    metrics: list[MetricResult]
    slices: list[Slice]
    row_metric: str
    base_scores: NDArray[np.float64]
    tuned_scores: NDArray[np.float64]

    def outcome(self, row: int) -> Outcome:
        """Whether the tuned model answered this row better, worse or alike."""
        base, tuned = self.base_scores[row], self.tuned_scores[row]
        if tuned != base:
            return "win" if tuned > base else "loss"
        return "tie_right" if tuned == 1 else "tie_wrong"

    def counts(self) -> dict[Outcome, int]:
        """How many rows had each outcome."""
        counts: dict[Outcome, int] = {"win": 0, "loss": 0, "tie_right": 0, "tie_wrong": 0}
        for row in range(self.rows):
            counts[self.outcome(row)] += 1
        return counts


def resolve_metrics(spec: EvaluationSpec, references: Sequence[str]) -> list[Metric]:
    """The metrics of a recipe; "auto" becomes those that fit the form of the reference answers."""
    if spec.metrics != "auto":
        return [named(name) for name in spec.metrics]
    as_json = bool(references) and all(is_json_object(text) for text in references)
    names = ("exact_match", "json_valid", "field_f1") if as_json else ("exact_match", "token_f1", "rouge_l")
    return [named(name) for name in names]


Scores = NDArray[np.float64]
BothScores = tuple[Scores, Scores]
"""Of base and tuned model, [rows] each."""


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
    found = {m.name: (_score(m, base, examples), _score(m, tuned, examples)) for m in metrics} | dict(measured or {})
    wanted = [*found] if spec.metrics == "auto" else spec.metrics
    scores = {name: found[name] for name in wanted}
    everything = np.arange(len(examples))
    first, (base_scores, tuned_scores) = next(iter(scores.items()), ("loss", (-base.losses(), -tuned.losses())))
    return Comparison(
        rows=len(examples),
        metrics=_results(scores, base, tuned, everything, spec, seed),
        slices=[
            Slice(field, value, len(rows), _results(scores, base, tuned, rows, spec, seed))
            for field in spec.slices
            for value, rows in _slice_rows(examples, field)
        ],
        row_metric=first,
        base_scores=base_scores,
        tuned_scores=tuned_scores,
    )


def _results(
    scores: Mapping[str, BothScores], base: Answers, tuned: Answers,
    rows: NDArray[np.int64], spec: EvaluationSpec, seed: int,
) -> list[MetricResult]:  # fmt: skip
    bootstrap = partial(paired_bootstrap, resamples=spec.resamples, seed=seed)
    results = [MetricResult(name, bootstrap(b[rows], t[rows])) for name, (b, t) in scores.items()]
    counts = base.label_counts[rows].astype(np.float64)
    sums = base.loss_sums[rows], tuned.loss_sums[rows]
    results.append(MetricResult("loss", bootstrap(*sums, counts)))
    results.append(MetricResult("perplexity", bootstrap(*sums, counts, transform=np.exp)))
    return results


def _score(metric: Metric, answers: Answers, examples: Sequence[Example]) -> NDArray[np.float64]:
    pairs = zip(answers.texts, examples, strict=True)
    return np.array([metric.score(text, example.answer()) for text, example in pairs])


def _slice_rows(examples: Sequence[Example], field: str) -> list[tuple[str, NDArray[np.int64]]]:
    """Values of a metadata field, most frequent first, with their rows; rows without the field are left out."""
    rows: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        if field in example.metadata:
            rows.setdefault(str(example.metadata[field]), []).append(index)
    return [(value, np.array(r)) for value, r in sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))]


def is_json_object(text: str) -> bool:
    """Whether an answer is one JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
