"""`evaluation.calibration`: how sure both models are of answers and labels, beside how often they are right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tiny
from tunesmith.core.events import silent
from tunesmith.pipelines import bench as benches
from tunesmith.pipelines import certainty, journey
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.read_recipe import read_recipe

EVALUATION = {"metrics": ["accuracy"], "max_tokens": 8, "calibration": True, "skills": False, "memorisation": None}
GATE = {"require": {"accuracy": -1.0}, "max_forgetting": None}


def test_probabilities_are_those_of_the_tokens(base: Path, tmp_path: Path) -> None:
    """Of every label they sum to one, and the likeliest is the one whose answer has the highest probability."""
    spec = read_recipe(tiny.write_task(tmp_path, base, evaluation=EVALUATION, gate=GATE))
    ready = prepare(spec)
    bench = benches.build(ready.spec, ready.base, ready.tokenizer)
    found = certainty.certainty(bench, ready, ["cat"] * 8)
    assert found.names == tuple(sorted(tiny.THINGS))
    assert found.labels is not None
    assert found.labels.shape == (8, 6)
    assert found.labels.sum(1) == pytest.approx(np.ones(8))
    every = np.stack([certainty.certainty(bench, ready, [name] * 8).answers for name in found.names], axis=1)
    assert (found.labels.argmax(1) == every.argmax(1)).all()
    assert found.labels == pytest.approx(every / every.sum(1, keepdims=True), rel=1e-4)
    assert (every < 1).all()
    assert certainty.certainty(bench, ready, ["cat" * 200] * 8).answers.tolist() == [0.0] * 8, "longer than the context"


def test_a_run_tells_it(base: Path, tmp_path: Path) -> None:
    recipe = tiny.write_task(tmp_path, base, evaluation=EVALUATION, gate=GATE)
    journey.run(read_recipe(recipe, ["training.max_steps=6"]), tmp_path / "run", resume=False, sink=silent)
    found = json.loads((tmp_path / "run/evaluation.json").read_text("utf-8"))["certainty"]
    for kind in ("answers", "labels"):
        for which in ("base", "tuned"):
            assert sum(one["pairs"] for one in found[kind][which]["bins"]) == 8
            assert 0 <= found[kind][which]["ece"] <= 1
    page = (tmp_path / "run/report.html").read_text("utf-8")
    assert "Certainty of whole answers" in page
    assert "Certainty among the labels" in page
