"""Laws of every metric and of the bootstrap."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.evaluation.metrics import METRICS, named
from tunesmith.evaluation.stats import paired_bootstrap

QUICK = settings(max_examples=150, deadline=None)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, 2.0, -0.0]), st.text(max_size=6),
    st.integers(), st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
VALUE = st.recursive(
    SCALAR, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3), max_leaves=8
)
OBJECT = st.dictionaries(st.sampled_from("abcd"), VALUE, max_size=4)
ANSWER = st.one_of(
    st.text(max_size=40), OBJECT.map(json.dumps), VALUE.map(json.dumps),
    st.lists(st.sampled_from(["the", "cat", "sat", "on", "A", "mat.", "dog"]), max_size=8).map(" ".join),
)  # fmt: skip
NAMES = [*METRICS, "field_accuracy:a", "field_accuracy:a.b"]


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(prediction=ANSWER, reference=ANSWER)
def test_scores_lie_between_0_and_1(name, prediction, reference):
    assert 0 <= named(name).score(prediction, reference) <= 1


@pytest.mark.parametrize("name", ["exact_match", "field_f1", "field_accuracy:a", "json_valid", "token_f1"])
@QUICK
@given(value=OBJECT, indent=st.sampled_from([None, 2]), turned=st.booleans())
def test_the_same_object_written_otherwise_scores_1(name, value, indent, turned):
    items = list(value.items())[::-1] if turned and name != "token_f1" else list(value.items())
    assert named(name).score(json.dumps(dict(items), indent=indent), json.dumps(value)) == 1


@QUICK
@given(text=st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), min_size=1, max_size=8).map(" ".join))
def test_words_equal_to_the_reference_score_1(text):
    assert named("exact_match").score(f" {text}\n", text) == 1
    assert named("token_f1").score(text, text) == 1
    assert named("rouge_l").score(text, text) == 1


@pytest.mark.parametrize("name", ["field_f1", "token_f1", "rouge_l", "exact_match"])
@QUICK
@given(a=OBJECT.map(json.dumps), b=OBJECT.map(json.dumps))
def test_answer_and_reference_may_change_places(name, a, b):
    metric = named(name)
    assert metric.score(a, b) == pytest.approx(metric.score(b, a))


@QUICK
@given(a=OBJECT, b=OBJECT)
def test_an_exact_match_is_valid_json_with_every_field_right(a, b):
    prediction, reference = json.dumps(a), json.dumps(b)
    if named("exact_match").score(prediction, reference):
        for name in ("json_valid", "field_f1", "field_accuracy:a", "field_accuracy:b"):
            assert named(name).score(prediction, reference) == 1


def with_decimals(value):
    """Equal as JSON, with 1.0 for 1."""
    if isinstance(value, dict):
        return {key: with_decimals(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_decimals(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value


@pytest.mark.parametrize("name", ["exact_match", "field_f1", "field_accuracy:a"])
@QUICK
@given(value=OBJECT)
def test_a_number_is_the_same_with_and_without_decimals(name, value):
    assert named(name).score(json.dumps(with_decimals(value)), json.dumps(value)) == 1
    assert named(name).score(json.dumps(value), json.dumps(with_decimals(value))) == 1


@QUICK
@given(value=OBJECT, key=st.sampled_from("abcd"), other=SCALAR)
def test_a_changed_field_costs(value, key, other):
    changed = value | {key: ["changed", other, "x" * 9]}
    assert named("exact_match").score(json.dumps(changed), json.dumps(value)) == 0
    assert named("field_f1").score(json.dumps(changed), json.dumps(value)) < 1


SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(scores=SCORES, seed=st.integers(0, 1000))
def test_intervals_lie_within_the_data_and_are_antisymmetric(scores, seed):
    base, tuned = (np.array(part) for part in zip(*scores, strict=True))
    there = paired_bootstrap(base, tuned, resamples=100, seed=seed)
    back = paired_bootstrap(tuned, base, resamples=100, seed=seed)
    for values, interval in ((base, there.base), (tuned, there.tuned), (tuned - base, there.delta)):
        assert values.min() - 1e-9 <= interval.low <= interval.high <= values.max() + 1e-9
    assert there.delta.low == pytest.approx(-back.delta.high, abs=1e-12)
    assert there.delta.value == pytest.approx(there.tuned.value - there.base.value, abs=1e-12)
