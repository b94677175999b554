"""A run whose recipe configures metrics: what it writes, and that it can be evaluated again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.pipelines.read_recipe import read_recipe

METRICS = [
    "accuracy", "macro_f1", "bleu", "chrf",
    {"type": "format", "pattern": "[a-z]+"},
    {"type": "length", "max_words": 1},
    {"type": "json_schema", "file": "word.schema.json"},
    {"type": "pass_at_k", "k": 2, "samples": 2, "tests": "check"},
    {"type": "python", "file": "mine.py", "name": "same_length"},
]  # fmt: skip
NAMES = ["accuracy", "macro_f1", "bleu", "chrf", "format", "length", "json_schema", "pass@2", "same_length"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    evaluation = {"metrics": METRICS, "slices": ["label", "length", "source"], "max_tokens": 8, "resamples": 200}
    recipe = tiny.write_task(folder, base, evaluation=evaluation, gate={"require": {"accuracy": -1, "same_length": -1}})
    test = [row | {"check": "assert True", "references": ["nothing"]} for row in tiny.rows(100, 12)]
    tiny.write_rows(folder / "test.jsonl", test)
    (folder / "word.schema.json").write_text('{"type": "string"}', "utf-8")
    (folder / "mine.py").write_text("def score(said, right, row):\n    return len(said) == len(right)\n", "utf-8")
    done = tiny.tunesmith("run", recipe, "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def facts(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation.json").read_text("utf-8"))


def test_every_metric_is_told_with_interval_and_test(evaluated: Path) -> None:
    found = {metric["name"]: metric for metric in facts(evaluated)["metrics"]}
    assert list(found) == [*NAMES, "loss", "perplexity"]
    for metric in found.values():
        low, high = metric["ci95"]
        assert low - 1e-9 <= metric["delta"] <= high + 1e-9
        assert 0 < metric["p_value"] <= 1
    assert {found[name]["test"] for name in ("accuracy", "format", "pass@2")} == {"mcnemar"}
    assert {found[name]["test"] for name in ("macro_f1", "bleu", "loss")} == {"permutation"}
    assert found["accuracy"]["tuned"] > found["accuracy"]["base"], "nothing was learned"
    assert found["loss"]["p_value"] < 0.05
    assert found["json_schema"]["tuned"] == 0, "a bare word is no JSON"


def test_the_verdict_tells_power_worst_slice_classes_and_holm(evaluated: Path) -> None:
    told = facts(evaluated)
    assert (told["power"]["metric"], told["power"]["rows"]) == ("accuracy", 12)
    assert 0 < told["power"]["detectable"] <= 1
    fields = {part["field"] for part in told["slices"]}
    assert fields == {"label", "length", "source"}
    assert told["worst_slice"] is None, "no slice of ten rows is smaller than the whole"
    assert {one["label"] for one in told["classes"]["tuned"]["labels"]} <= set(tiny.THINGS)
    assert sum(one["rows"] for one in told["classes"]["tuned"]["labels"]) == 12
    copied = {one["metric"]: one for one in told["baselines"]}
    assert copied.keys() == {"accuracy", "macro_f1", "bleu", "chrf", "pass@2", "same_length"}
    tuned = {metric["name"]: metric["tuned"] for metric in told["metrics"]}
    for name, one in copied.items():
        assert one["ci95"][0] - 1e-9 <= tuned[name] - one["score"] <= one["ci95"][1] + 1e-9
    assert "after Holm: 2 metrics are gated" in " ".join(reason["text"] for reason in told["reasons"])
    page = (evaluated / "report.html").read_text("utf-8")
    assert "With 12 rows you can see differences in accuracy of" in page
    assert "Macro F1" in page
    row = json.loads((evaluated / "predictions.jsonl").read_text("utf-8").splitlines()[0])
    assert row["slices"].keys() == {"label", "length", "source"}
    assert row["slices"]["source"] == "test.jsonl"


def test_the_lock_holds_the_metrics_as_they_were_configured(evaluated: Path) -> None:
    spec = read_recipe(evaluated / "recipe.lock.yaml")
    assert list(spec.evaluation.metric_names()) == NAMES
    mine = spec.evaluation.metrics[-1]
    assert mine.file == str(evaluated.parent / "mine.py")


@pytest.mark.slow
def test_the_run_can_be_evaluated_again_to_the_same_figures(evaluated: Path) -> None:
    before = facts(evaluated)
    done = tiny.tunesmith("evaluate", evaluated, "--fresh", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] == before["metrics"]


@pytest.mark.parametrize(
    ("metric", "code", "text"),
    [({"type": "blue"}, 3, "evaluation.metrics"), ({"type": "json_schema", "file": "absent.json"}, 4, "absent.json"),
     ({"type": "format", "pattern": "("}, 3, "regular expression"), ("blue", 3, "did you mean 'bleu'"),
     ({"type": "pass_at_k"}, 3, "asks for tests under 'test'")],
)  # fmt: skip
def test_a_wrong_metric_is_refused_before_training(tmp_path, base, cli, metric, code, text) -> None:
    recipe = tiny.write_task(tmp_path, base, evaluation={"metrics": [metric], "max_tokens": 4}, gate={})
    done = cli("run", recipe, "--out", tmp_path / "run")
    assert done.code == code, done.err
    assert text in done.err
    assert not (tmp_path / "run" / "adapter").exists()
