"""What every metric must keep to, whether it has a name or settings. Texts alone: what runs code is tested apart."""

import json
import random

import numpy as np
import pytest

from tunesmith.core.messages import Example, Message
from tunesmith.evaluation.metrics import FIELD_METRICS, METRICS, named
from tunesmith.evaluation.metrics.config import BleuSpec, FormatSpec, JsonSchemaSpec, LabelsSpec, LengthSpec
from tunesmith.evaluation.metrics.over_rows import lower_is_better, scored, unit
from tunesmith.evaluation.significance import difference
from tunesmith.evaluation.stats import bootstrap

ANSWERS = ["billing", "the cat sat on a mat today", '{"a": 1}', "#### 7", "", "I cannot help with that.", "shipping",
           '{"name": "f", "arguments": {}}', "é ü ß", "7.0"]  # fmt: skip
LABELS = tuple(ANSWERS)
CONFIGURED = {
    "format": lambda _: FormatSpec(type="format", pattern="[a-z]+"),
    "length": lambda _: LengthSpec(type="length", max_words=2),
    "bleu of characters": lambda _: BleuSpec(type="bleu", tokenize="char", lowercase=True),
    "labels": lambda _: LabelsSpec(type="macro_f1", labels=LABELS),
    "json_schema": lambda folder: JsonSchemaSpec(type="json_schema", file=str(folder / "s.json")),
}
EVERY = [*METRICS, *(f"{kind}:a" for kind in FIELD_METRICS), *CONFIGURED]


@pytest.fixture(params=EVERY)
def metric(request, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"type": "object"}), "utf-8")
    made = CONFIGURED.get(request.param)
    return named(made(tmp_path) if made else request.param)


def task(count, seed):
    draw = random.Random(seed)
    right = [draw.choice(ANSWERS) for _ in range(count)]
    rows = [
        Example(messages=(Message(role="user", content="?"), Message(role="assistant", content=text)),
                metadata={"references": [draw.choice(ANSWERS)]} if i % 3 == 0 else {})
        for i, text in enumerate(right)
    ]  # fmt: skip
    return rows, [[text if draw.random() < skill else draw.choice(ANSWERS) for text in right] for skill in (0.4, 0.8)]


def test_each_row_has_a_score_and_the_figure_lies_in_range(metric):
    rows, (said, _) = task(30, 0)
    found = scored(metric, said, rows)
    assert found.rows.shape == (30,)
    assert found.statistics.shape[0] == 30
    assert ((found.rows >= 0) & (found.rows <= 1)).all()
    assert 0 <= found.value <= 1
    assert unit(metric) == "share"


def test_right_answers_score_at_least_as_well_as_mixed_ones(metric):
    rows, (said, _) = task(30, 1)
    right = scored(metric, [row.answer() for row in rows], rows).value
    mixed = scored(metric, said, rows).value
    if metric.uses_reference:
        assert right >= mixed - 1e-12
        assert right > 0
    else:
        assert scored(metric, said, rows).value == scored(metric, said, rows[::-1]).value


def test_a_part_of_the_rows_is_scored_as_these_rows_alone_would_be(metric):
    rows, (said, _) = task(60, 2)
    some = np.array([i for i in range(60) if i % 5])  # every answer is still among them
    part = scored(metric, said, rows).of(some)
    alone = scored(metric, [said[i] for i in some], [rows[i] for i in some])
    np.testing.assert_allclose(part.rows, alone.rows)
    assert part.value == pytest.approx(alone.value)


def test_models_change_places_with_the_sign_alone(metric):
    rows, (worse, better) = task(40, 3)
    one, other = scored(metric, worse, rows), scored(metric, better, rows)
    there, back = bootstrap(one, other, resamples=100, seed=0), bootstrap(other, one, resamples=100, seed=0)
    np.testing.assert_allclose(there.draws, -back.draws, atol=1e-12)
    assert there.delta.value == pytest.approx(other.value - one.value)
    assert difference(one, one, permutations=100, seed=0).p_value == 1
    p_values = [difference(*pair, permutations=400, seed=0).p_value for pair in ((one, other), (other, one))]
    assert p_values[0] == pytest.approx(p_values[1], abs=0.12)
    assert isinstance(lower_is_better(metric), bool)
