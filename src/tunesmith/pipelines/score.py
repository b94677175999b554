"""A model's answers on the test rows and its loss on general text; two of these make evaluation.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.events import Progress, Sink
from ..evaluation import overfitting as overfit
from ..evaluation.compare import Comparison, compare
from ..evaluation.forgetting import Forgetting, GeneralLoss, general_loss, general_rows
from ..evaluation.gate import Verdict, judge
from ..evaluation.metrics import Metric
from ..evaluation.neighbour import copied_answers
from ..evaluation.run import Answers, TestSet, answer_rows
from .bench import Bench
from .prepare import Prepared
from .rundir import RunDir


@dataclass(frozen=True)
class Score:
    """One model: its answers on the test rows, and its loss on the packaged general text."""

    answers: Answers
    general: GeneralLoss


def score(bench: Bench, prepared: Prepared, sink: Sink) -> Score:
    """Answer the test rows greedily and measure losses, with the bench as it stands."""
    spec = prepared.spec
    test = TestSet.of(prepared.test.examples, prepared.test.encoded, bench.tokenizer)
    answers = answer_rows(
        bench.model, bench.tokenizer, test,
        max_tokens=int(spec.evaluation.max_tokens), stop_ids=bench.stop_ids, context=bench.context,
        number_type=bench.number_type, on_progress=lambda done: sink(Progress(done, len(test.examples), "rows")),
    )  # fmt: skip
    rows = general_rows(bench.tokenizer, int(spec.training.max_length))
    return Score(answers, general_loss(bench.model, rows, pad_id=bench.pad_id, number_type=bench.number_type))


def evaluate(prepared: Prepared, base: Score, tuned: Score, run: RunDir) -> Verdict:
    """Compare the two, judge, and write `evaluation.json` and `predictions.jsonl` of a trained run."""
    spec = prepared.spec
    comparison = compare(
        prepared.test.examples, base.answers, tuned.answers, prepared.metrics, spec.evaluation, spec.seed
    )
    forgetting = Forgetting.between(base.general, tuned.general)
    verdict = judge(spec.gate, comparison.metrics, forgetting)
    facts, curves = run.read_json("run.json"), run.curves()
    stopping = spec.training.early_stopping
    watched = stopping.metric if stopping else "loss"
    overfitting = overfit.judge(*curves, facts["kept_step"], stopped_early=facts["stopped_early"], watched=watched)
    run.write_lines("predictions.jsonl", _predictions(prepared, base.answers, tuned.answers, comparison))
    run.write_json(
        "evaluation.json",
        {
            "verdict": "pass" if verdict.passed else "fail",
            "reasons": [vars(reason) for reason in verdict.reasons],
            "rows": comparison.rows,
            "metrics": [m.as_json() for m in comparison.metrics],
            "slices": [
                {
                    "field": s.field,
                    "value": s.value,
                    "rows": s.rows,
                    "metrics": [m.as_json() for m in s.metrics],
                }
                for s in comparison.slices
            ],
            "row_metric": comparison.row_metric,
            "outcomes": comparison.counts(),
            "baselines": _baselines(prepared),
            "forgetting": vars(forgetting) | {"delta": forgetting.delta, "limit": spec.gate.max_forgetting},
            "overfitting": vars(overfitting),
        },
    )
    return verdict


def _baselines(prepared: Prepared) -> list[dict[str, Any]]:
    """What copying the nearest training answer would score: a test that this passes proves little."""
    answers = copied_answers(prepared.train.examples, prepared.test.examples)
    return [
        {"name": "nearest training row", "metric": metric.name, "score": _mean(metric, answers, prepared)}
        for metric in prepared.metrics
        if metric.uses_reference
    ]


def _mean(metric: Metric, answers: list[str], prepared: Prepared) -> float:
    pairs = zip(answers, prepared.test.examples, strict=True)
    scores = [metric.score(text, example.answer()) for text, example in pairs]
    return sum(scores) / len(scores)


def _predictions(prepared: Prepared, base: Answers, tuned: Answers, comparison: Comparison) -> list[dict[str, Any]]:
    fields = prepared.spec.evaluation.slices
    return [
        {
            "index": i,
            "source": example.origin,
            "prompt": [m.template_form() for m in example.prompt()],
            "reference": example.answer(),
            "base": base.texts[i],
            "tuned": tuned.texts[i],
            "base_score": float(comparison.base_scores[i]),
            "tuned_score": float(comparison.tuned_scores[i]),
            "base_loss": float(base.loss_sums[i] / max(1, base.label_counts[i])),
            "tuned_loss": float(tuned.loss_sums[i] / max(1, tuned.label_counts[i])),
            "base_finished": base.finished[i],
            "tuned_finished": tuned.finished[i],
            "outcome": comparison.outcome(i),
            "slices": {f: str(example.metadata[f]) for f in fields if f in example.metadata},
        }
        for i, example in enumerate(prepared.test.examples)
    ]
