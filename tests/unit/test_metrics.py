"""Metrics on hand-worked cases. The laws are in properties/test_metric_laws.py."""

import pytest

from tunesmith.core.errors import ContentError
from tunesmith.evaluation.metrics import METRICS, named


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        (" yes\n", "yes", 1), ("Yes", "yes", 0), ("", "", 1), ("5", "5.0", 0),
        ('{"b": 1, "a": [2]}', '{"a":[2],"b":1}', 1),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', 0),
        ('{"a": 1}', '{"a": 1.0}', 1),
        ('{"a": true}', '{"a": 1}', 0), ('{"a": 1}', '{"a": true}', 0), ('{"a": true}', '{"a": true}', 1),
        ('{"a": 1', '{"a": 1}', 0), ('{"a": 1} ok', '{"a": 1}', 0), ('{"a": "1"}', '{"a": 1}', 0),
        ('{"a": NaN}', '{"a": NaN}', 1),  # no JSON, so equal as text
        ('{"a": null}', "{}", 0), ("[]", "{}", 0), ("{}", "[]", 0),
    ],
)  # fmt: skip
def test_exact_match(prediction, reference, score):
    assert named("exact_match").score(prediction, reference) == score


@pytest.mark.parametrize(
    ("prediction", "score"),
    [("{}", 1), (" [1, 2]\n", 1), ("5", 1), ("null", 1), ("", 0), ("{'a': 1}", 0), ("{} {}", 0), ("NaN", 0),
     ("[Infinity]", 0), ("```json\n{}\n```", 0), ("[" * 100_000, 0)],
)  # fmt: skip
def test_json_valid(prediction, score):
    assert named("json_valid").score(prediction, "whatever") == score


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}', 1),
        ('{"a": 1, "b": 3}', '{"a": 1, "b": 2}', 0.5),
        ('{"a": 1}', '{"a": 1, "b": 2, "c": 3}', 0.5),  # precision 1, recall 1/3
        ('{"a": {"x": 1}, "b": 2}', '{"a": {"x": 1}, "b": 0}', 0.5),
        ('{"a": {"x": 1}}', '{"a.x": 1}', 0),
        ('{"a": [1, 2, 3]}', '{"a": [3, 2, 1]}', 1),
        ('{"a": [1, 1]}', '{"a": [1]}', 2 / 3),
        ('{"a": 1.0}', '{"a": 1}', 1), ('{"a": true}', '{"a": 1}', 0), ('{"a": "1"}', '{"a": 1}', 0),
        ("{}", "{}", 1), ("{}", '{"a": 1}', 0), ('{"a": {}}', '{"a": {}}', 1), ('{"a": {}}', '{"a": []}', 0),
        ("1", '{"a": 1}', 0), ("not json", '{"a": 1}', 0), ('{"a": 1}', "not json", 0),
    ],
)  # fmt: skip
def test_field_f1(prediction, reference, score):
    assert named("field_f1").score(prediction, reference) == pytest.approx(score)


@pytest.mark.parametrize(
    ("field", "prediction", "reference", "score"),
    [
        ("a", '{"a": "x", "b": 1}', '{"a": "x", "b": 2}', 1),
        ("a", '{"a": "x"}', '{"a": "y"}', 0),
        ("a.b", '{"a": {"b": 1}}', '{"a": {"b": 1}}', 1),
        ("a.b", '{"a": 1}', '{"a": {"b": 1}}', 0),
        ("c", '{"a": 1}', '{"a": 2}', 1),  # absent in both
        ("c", '{"c": null}', '{"a": 2}', 0),  # null is not absent
        ("a", '{"a": true}', '{"a": 1}', 0),
        ("a", "[1]", '{"b": 1}', 0),
        ("a", "no json", '{"b": 1}', 0),
    ],
)
def test_field_accuracy(field, prediction, reference, score):
    metric = named(f"field_accuracy:{field}")
    assert metric.name == f"field_accuracy:{field}"
    assert metric.score(prediction, reference) == score


@pytest.mark.parametrize("name", ["exact_match", "field_f1", "field_accuracy:a"])
def test_answers_nested_as_deep_as_json_reads_do_not_break_a_metric(name):
    reference = '{"a": 1}'
    for depth in (100, 700, 900, 950, 980, 995, 2000):
        assert named(name).score("[" * depth + "]" * depth, reference) == 0


@pytest.mark.parametrize("name", ["exactmatch", "field_accuracy", "field_accuracy:", "rouge", "exact_match:x"])
def test_unknown_names_say_what_is_known(name):
    with pytest.raises(ContentError, match="unknown metric") as refused:
        named(name)
    assert "exact_match" in refused.value.mend
    assert "field_accuracy:<field>" in refused.value.mend


def test_names_are_those_under_which_they_are_found():
    assert all(named(name).name == name for name in METRICS)


def test_rouge_l_reads_every_script():
    assert named("rouge_l").score("привет мир", "привет мир") == 1.0
    assert named("rouge_l").score("привет мир", "пока мир") == 0.5
