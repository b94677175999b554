"""The gate's word, outcomes of rows, and the verdict on the loss curves."""

import numpy as np
import pytest

from tunesmith.core.errors import ContentError
from tunesmith.core.messages import Example, Message
from tunesmith.evaluation import gate, overfitting
from tunesmith.evaluation.answers import Answers
from tunesmith.evaluation.compare import MetricResult, compare, resolve_metrics
from tunesmith.evaluation.config import EvaluationSpec, GateSpec
from tunesmith.evaluation.forgetting import Forgetting, GeneralLoss
from tunesmith.evaluation.metrics import named
from tunesmith.evaluation.stats import Interval, Paired


def metric(name, low, high):
    interval = Interval(0.5, 0.4, 0.6)
    return MetricResult(name, Paired(interval, interval, Interval((low + high) / 2, low, high)))


def forgot(delta):
    return Forgetting.between(GeneralLoss(2.0, 10, 100), GeneralLoss(2.0 + delta, 10, 100))


@pytest.mark.parametrize(("low", "passed"), [(0.001, True), (0.0, False), (-0.1, False), (float("nan"), False)])
def test_by_default_the_lower_bound_of_the_first_metric_must_be_above_zero(low, passed):
    verdict = gate.judge(GateSpec(), [metric("exact_match", low, 0.5), metric("rouge_l", -1, 1)], forgot(0.0))
    assert verdict.passed is passed
    assert [r.ok for r in verdict.reasons] == [passed, True]


@pytest.mark.parametrize(("least", "passed"), [(0.2, True), (0.2001, False), (-1, True)])
def test_requirements_hold_for_the_lower_bound_inclusive(least, passed):
    verdict = gate.judge(GateSpec(require={"rouge_l": least}), [metric("rouge_l", 0.2, 0.9)], forgot(0))
    assert verdict.passed is passed


def test_of_a_loss_the_least_fall_is_required():
    falling = metric("loss", -0.9, -0.3)
    assert gate.judge(GateSpec(require={"loss": 0.3}), [falling], forgot(0)).passed
    assert not gate.judge(GateSpec(require={"loss": 0.31}), [falling], forgot(0)).passed


@pytest.mark.parametrize(
    ("limit", "delta", "passed"),
    [(0.1, 0.1, True), (0.1, 0.11, False), (0.0, -0.5, True), (None, 99.0, True), (0.1, float("nan"), False)],
)
def test_forgetting_has_a_limit_unless_there_is_none(limit, delta, passed):
    forgetting = Forgetting(0.0, delta, 1, 1)
    verdict = gate.judge(GateSpec(max_forgetting=limit), [metric("exact_match", 0.1, 0.2)], forgetting)
    assert verdict.passed is passed
    assert len(verdict.reasons) == (1 if limit is None else 2)


def test_one_broken_condition_fails_the_whole():
    spec = GateSpec(require={"rouge_l": 0.1, "loss": 0.1})
    verdict = gate.judge(spec, [metric("rouge_l", 0.2, 0.3), metric("loss", 0.1, 0.2)], forgot(0))
    assert [r.ok for r in verdict.reasons] == [True, False, True]
    assert not verdict.passed


def test_a_gate_on_an_unmeasured_metric_is_refused_beforehand():
    gate.check_names(GateSpec(require={"loss": 0.1}), ["rouge_l", "loss"])
    with pytest.raises(ContentError, match="'rouge'") as refused:
        gate.check_names(GateSpec(require={"rouge": 0.1}), ["rouge_l", "loss"])
    assert "did you mean 'rouge_l'?" in refused.value.mend


def rows(*answers):
    return [
        Example(
            messages=(Message(role="user", content=str(i)), Message(role="assistant", content=a)),
            metadata={"kind": "even" if i % 2 == 0 else "odd"} if i < 4 else {},
        )
        for i, a in enumerate(answers)
    ]


def answers(texts, losses):
    return Answers(list(texts), [True] * len(texts), np.array(losses, dtype=float), np.full(len(texts), 2))


def test_every_row_has_one_outcome_and_slices_hold_their_rows_only():
    examples = rows("a", "b", "c", "d", "e")
    base, tuned = answers("axcxx", [4, 4, 4, 4, 4]), answers("abxxx", [2, 2, 2, 2, 2])
    spec = EvaluationSpec(metrics=("exact_match",), slices=("kind",), resamples=100)
    result = compare(examples, base, tuned, [named("exact_match")], spec, seed=0)
    assert [result.outcome(i) for i in range(5)] == ["tie_right", "win", "loss", "tie_wrong", "tie_wrong"]
    assert result.counts() == {"win": 1, "loss": 1, "tie_right": 1, "tie_wrong": 2}
    assert [m.name for m in result.metrics] == ["exact_match", "loss", "perplexity"]
    assert [(s.value, s.rows) for s in result.slices] == [("even", 2), ("odd", 2)]
    even, odd = (s.metrics[0].figures for s in result.slices)
    assert (even.base.value, even.tuned.value, odd.base.value, odd.tuned.value) == (1.0, 0.5, 0.0, 0.5)


def test_loss_is_per_token_and_falling_is_a_gain():
    result = compare(
        rows("a", "b"), answers("ab", [4, 4]), answers("ab", [2, 2]), [named("exact_match")], EvaluationSpec(), seed=0
    )
    loss, perplexity = result.metrics[1:]
    assert (loss.figures.base.value, loss.figures.tuned.value, loss.figures.delta.value) == (2, 1, -1)
    assert perplexity.figures.base.value == pytest.approx(np.exp(2))
    assert loss.gain_low() == pytest.approx(1)
    assert loss.as_json()["higher_is_better"] is False
    assert result.metrics[0].as_json()["higher_is_better"] is True


def test_metrics_follow_the_form_of_the_answers():
    names = [m.name for m in resolve_metrics(EvaluationSpec(), ['{"a": 1}', "{}"])]
    assert names == ["exact_match", "json_valid", "field_f1"]
    assert resolve_metrics(EvaluationSpec(), ['{"a": 1}', "[1]"])[-1].name == "rouge_l"
    assert resolve_metrics(EvaluationSpec(), [])[-1].name == "rouge_l"
    assert [m.name for m in resolve_metrics(EvaluationSpec(metrics=("json_valid",)), ["x"])] == ["json_valid"]


def curve(*losses, every=10):
    return [((i + 1) * every, loss) for i, loss in enumerate(losses)]


FALLING = [(i + 1, 3.0 - 0.02 * i) for i in range(100)]


@pytest.mark.parametrize(
    ("validation", "verdict"),
    [
        (curve(3.0, 2.0, 1.5, 1.45, 1.45), "none"),
        (curve(3.0, 2.0, 1.5, 1.5 * 1.019), "none"),
        (curve(3.0, 2.0, 1.5, 1.5 * 1.021), "mild"),
        (curve(3.0, 2.0, 1.5, 1.5 * 1.101), "overfitting"),
        (curve(3.0, 2.5, 2.0, 1.5), "too_short"),
        (curve(3.0), "none"),
        ([], "not_measured"),
    ],
)
def test_the_verdict_follows_the_validation_curve(validation, verdict):
    assert overfitting.judge(FALLING, validation, 30, stopped_early=False).verdict == verdict


def test_neither_loss_moving_is_underfitting():
    flat = [(i + 1, 3.0) for i in range(100)]
    assert overfitting.judge(flat, curve(3.0, 2.99, 2.98), 30, stopped_early=False).verdict == "underfit"
    assert overfitting.judge(FALLING, curve(3.0, 2.99, 2.98), 30, stopped_early=False).verdict == "none"


def test_the_figures_and_the_explanation_name_the_steps():
    told = overfitting.judge(FALLING, curve(3.0, 1.5, 2.0), 20, stopped_early=True)
    assert (told.best_step, told.best_validation_loss, told.last_validation_loss) == (20, 1.5, 2.0)
    assert (told.last_step, told.kept_step) == (100, 20)
    assert told.last_train_loss == pytest.approx(sum(x for _, x in FALLING[-10:]) / 10)
    assert "lowest at step 20 (1.500 nats a token)" in told.explanation
    assert "Early stopping ended the training." in told.explanation
    assert told.explanation.endswith("Step 20 is kept, because its validation loss is the lowest.")


def test_the_reason_for_the_kept_step_is_true():
    last = overfitting.judge(FALLING, curve(3.0, 1.5, 1.6), 100, stopped_early=False)
    assert last.explanation.endswith("Step 100 is kept, as the last one.")
    other = overfitting.judge(FALLING, curve(3.0, 1.5, 1.4999, 1.6), 20, stopped_early=True)
    assert other.best_step == 30
    assert "as the last one" not in other.explanation


def test_a_gate_without_a_condition_is_refused():
    with pytest.raises(ContentError, match="no condition"):
        gate.check_names(GateSpec(require={}, max_forgetting=None), ["exact_match"])
