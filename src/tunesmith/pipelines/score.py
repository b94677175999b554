"""A model's answers on the test rows and its loss on general text; two of these make evaluation.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core import files
from ..core.events import Note, Progress, Sink
from ..evaluation import overfitting as overfit
from ..evaluation.answers import Answers, Recall
from ..evaluation.classes import said_classes
from ..evaluation.compare import Comparison, compare
from ..evaluation.forgetting import Forgetting, GeneralLoss, general_rows
from ..evaluation.gate import Verdict, judge, judge_probes
from ..evaluation.general_loss import general_loss
from ..evaluation.metrics.base import Sampled
from ..evaluation.metrics.label_f1 import Accuracy, LabelF1
from ..evaluation.metrics.over_rows import scored
from ..evaluation.neighbour import copied_answers
from ..evaluation.run import TestSet, answer_rows, draw_rows, score_documents, score_rows
from ..evaluation.slices import worst
from ..evaluation.stats import bootstrap
from ..inference.generate import Sampling
from ..methods.base import Figures, Heading
from . import judged, lost, probes, remedies, score_heads
from .bench import Bench
from .certainty import Certainty, certainty
from .certainty import facts as certainties
from .lost import Lost
from .prepare import Prepared
from .probes import Probes, probe
from .pulls import pulled
from .rundir import RunDir


@dataclass(frozen=True)
class Score:
    """One model: its answers on the test rows, and its loss on the packaged general text."""

    answers: Answers
    general: GeneralLoss | None
    """None of a model that has no vocabulary head."""
    held_out: Figures
    """What the method asks of a model on the test rows."""
    probes: Probes = field(default_factory=Probes)
    certainty: Certainty | None = None
    """Where the recipe asks for it."""


def score(bench: Bench, prepared: Prepared, sink: Sink, recall: Recall | None = None) -> Score:
    """Answer the test rows greedily, but for answers that are known, and measure losses; with the bench as it is."""
    how: dict[str, Any] = {"pad_id": bench.pad_id, "number_type": bench.number_type}
    method = prepared.spec.method.build()
    if isinstance(method, Heading):
        figures = method.held_out(bench.model, prepared.test.encoded, **how)
        return Score(score_heads.answers(method, figures), None, figures)
    rows = general_rows(bench.tokenizer, int(prepared.spec.training.max_length))
    answers = _answers(bench, prepared, sink, recall) if prepared.metrics else _losses(bench, prepared, how)
    asked = prepared.spec.evaluation.calibration and prepared.metrics
    return Score(
        answers,
        general_loss(bench.model, rows, **how),
        method.held_out(bench.model, prepared.test.encoded, **how),
        probe(bench, prepared),
        certainty(bench, prepared, answers.texts) if asked else None,
    )


def _losses(bench: Bench, prepared: Prepared, how: dict[str, Any]) -> Answers:
    """Of the references alone; of texts all of each."""
    if prepared.kind == "text":
        limit = int(prepared.spec.training.max_length)
        return score_documents(bench.model, prepared.test.encoded, limit=limit, **how)
    return score_rows(bench.model, prepared.references(), **how)


def _answers(bench: Bench, prepared: Prepared, sink: Sink, recall: Recall | None) -> Answers:
    spec = prepared.spec
    test = TestSet.of(prepared.test.conversations, prepared.references(), bench.tokenizer)
    longest = int(spec.evaluation.max_tokens)
    how: dict[str, Any] = {"stop_ids": bench.stop_ids, "context": bench.context}
    answers = answer_rows(
        bench.model, bench.tokenizer, test, max_tokens=longest, number_type=bench.number_type,
        on_progress=lambda done: sink(Progress(done, len(test.examples), "rows")), recall=recall, **how,
    )  # fmt: skip
    if answers.reused:
        sink(Note(f"{answers.reused} of {len(test.examples)} answers were known and not asked again"))
    asking = [metric for metric in prepared.metrics if isinstance(metric, Sampled) and metric.samples]
    if not asking:
        return answers
    times, temperature = max(metric.samples for metric in asking), asking[0].temperature
    sampling = Sampling(longest, temperature=temperature, seed=spec.seed)
    return replace(answers, drawn=draw_rows(bench.model, bench.tokenizer, test, sampling, times, **how))


def evaluate(
    prepared: Prepared, bench: Bench, base: Score, tuned: Score, run: RunDir, sink: Sink, data: Path | None = None
) -> Verdict:
    """Compare the two, judge, and write `evaluation.json` and `predictions.jsonl` of a trained run, whose model the
    bench holds; of other test rows, `data`, into a folder in its folder."""
    into = judged.place(data)
    files.make_folder(run.path / into)
    spec = prepared.spec
    comparison = compare(
        prepared.test.conversations, base.answers, tuned.answers, prepared.metrics, spec.evaluation, spec.seed,
        spec.method.build().compared(base.held_out, tuned.held_out),
    )  # fmt: skip
    forgetting = Forgetting.between(base.general, tuned.general) if base.general and tuned.general else None
    losses = base.answers.losses(), tuned.answers.losses()
    probed = probes.facts(base.probes, tuned.probes, *losses, spec.seed, spec.data.canaries)
    verdict = judge(spec.gate, comparison.metrics, forgetting)
    verdict = Verdict([*verdict.reasons, *judge_probes(spec.gate, probed)])
    facts, curves = run.read_json("run.json"), run.curves()
    stopping = spec.training.early_stopping
    watched = stopping.metric if stopping else "loss"
    overfitting = overfit.judge(*curves, facts["kept_step"], stopped_early=facts["stopped_early"], watched=watched)
    missed, influence = _missed(prepared, comparison, bench, sink)
    run.write_lines(
        f"{into}/predictions.jsonl", _predictions(prepared, base.answers, tuned.answers, comparison, missed)
    )
    run.write_lines(
        f"{into}/{lost.FILE}",
        lost.rows(missed, prepared.train.conversations, prepared.test.conversations, tuned.answers.texts),
    )
    found = (
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
            "worst_slice": _facts(worst(comparison.slices, comparison.metrics[0])),
            "row_metric": comparison.row_metric,
            "power": _facts(comparison.power),
            "outcomes": comparison.counts(),
            "lost": lost.counts(missed),
            "baselines": _baselines(prepared, comparison),
            "forgetting": _forgetting(forgetting, spec.gate.max_forgetting),
            "overfitting": vars(overfitting),
        }
        | probed
        | influence
        | score_heads.facts(prepared, base.held_out, tuned.held_out)
        | _classes(prepared, base.answers, tuned.answers)
        | _certainty(prepared, base, tuned, comparison)
    )
    mixture = run.read_json("data-audit.json").get("mixture", [])
    run.write_json(f"{into}/evaluation.json", found | remedies.facts(spec, prepared.base, found, mixture))
    judged.keep(run, data, comparison.metrics)
    return verdict


def _certainty(prepared: Prepared, base: Score, tuned: Score, comparison: Comparison) -> dict[str, Any]:
    if base.certainty is None or tuned.certainty is None:
        return {}
    scores = {"base": comparison.base_scores, "tuned": comparison.tuned_scores}
    right = {name: found == comparison.right for name, found in scores.items()}
    return certainties(prepared, base.certainty, tuned.certainty, right)


def _missed(
    prepared: Prepared, comparison: Comparison, bench: Bench, sink: Sink
) -> tuple[list[Lost], dict[str, Any]]:  # fmt: skip
    """The rows that the tuned model answers and does not get right, and `influence` of evaluation.json."""
    if not prepared.metrics:
        return [], {}
    outcomes = [comparison.outcome(i) for i in range(comparison.rows)]
    wrong = [i for i, outcome in enumerate(outcomes) if outcome in ("loss", "tie_wrong")]
    found = lost.lost(prepared.train.conversations, prepared.test.conversations, wrong)
    if not prepared.spec.evaluation.influence:
        return found, {}
    return pulled(found, prepared, bench, [i for i in wrong if outcomes[i] == "loss"], sink)


def _facts(found: Any) -> dict[str, Any] | None:
    """A record as plain values, where there is one."""
    return vars(found) if found else None


def _classes(prepared: Prepared, base: Answers, tuned: Answers) -> dict[str, Any]:
    """`classes` of answers that are labels, where a metric takes them so."""
    metric = next((one for one in prepared.metrics if isinstance(one, Accuracy | LabelF1)), None)
    if metric is None:
        return {}
    truth = [metric.label(example.answer()) for example in prepared.test.conversations]
    both = {"base": base, "tuned": tuned}
    return {
        "classes": {
            name: asdict(said_classes(truth, [metric.label(text) for text in answers.texts]))
            for name, answers in both.items()
        }
    }


def _forgetting(found: Forgetting | None, limit: float | None) -> dict[str, Any]:
    if found is None:
        return {"base_loss": None, "tuned_loss": None, "rows": 0, "tokens": 0, "delta": None, "limit": None,
                "unmeasured": score_heads.UNMEASURED}  # fmt: skip
    return vars(found) | {"delta": found.delta, "limit": limit}


def _baselines(prepared: Prepared, comparison: Comparison) -> list[dict[str, Any]]:
    """What copying the nearest training answer would score: a test that this passes proves little. Of pairs also how
    often the longer answer is the better one. `ci95` is of what the tuned model has more."""
    found = score_heads.baselines(prepared)
    if prepared.kind == "preference":
        longer = [_longer(pair.chosen.labelled, pair.rejected.labelled) for pair in prepared.test.encoded]
        share = sum(longer) / len(longer)
        found = [
            {"name": "the longer answer", "metric": name, "score": share} for name in prepared.spec.method.measures
        ]
    if not prepared.metrics:
        return found
    answers = copied_answers(prepared.train.conversations, prepared.test.conversations)
    resamples, seed = prepared.spec.evaluation.resamples, prepared.spec.seed
    for metric in prepared.metrics:
        if metric.uses_reference:
            copied = scored(metric, answers, prepared.test.conversations)
            apart = bootstrap(copied, comparison.tuned[metric.name], resamples=resamples, seed=seed).delta
            one = {"name": "nearest training row", "metric": metric.name, "score": copied.value, "ci95": apart.pair}
            found.append(one)
    return found


def _longer(chosen: int, rejected: int) -> float:
    return 0.5 if chosen == rejected else float(chosen > rejected)


def _predictions(
    prepared: Prepared, base: Answers, tuned: Answers, comparison: Comparison, missed: Sequence[Lost]
) -> list[dict[str, Any]]:
    why = lost.facts(missed, prepared.train.conversations)
    base_losses, tuned_losses = base.losses(), tuned.losses()
    answered = bool(prepared.metrics) or any(base.texts) or any(tuned.texts)
    return [
        {
            "index": i,
            "source": example.origin,
            "prompt": [m.template_form() for m in example.prompt()],
            "reference": None if prepared.kind == "text" else example.answer(),
            "base": base.texts[i] if answered else None,
            "tuned": tuned.texts[i] if answered else None,
            "base_score": float(comparison.base_scores[i]),
            "tuned_score": float(comparison.tuned_scores[i]),
            "base_loss": float(base_losses[i]),
            "tuned_loss": float(tuned_losses[i]),
            "base_finished": base.finished[i],
            "tuned_finished": tuned.finished[i],
            "outcome": comparison.outcome(i),
            "slices": comparison.slices_of(i),
        }
        | ({"lost": why[i]} if i in why else {})
        for i, example in enumerate(prepared.test.conversations)
    ]
