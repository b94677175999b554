"""`evaluation.influence` of a run, and whose learning curve its report shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from tunesmith.core.errors import ConflictError, ContentError
from tunesmith.core.events import silent
from tunesmith.core.messages import Example
from tunesmith.data.formats import detect
from tunesmith.pipelines import journey, learning_curve, report_growth
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.rundir import RunDir

ASKED = 2


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run, evaluated again with the influences on some of its lost rows, under a gate that it breaks."""
    folder = tmp_path_factory.mktemp("influential") / "run"
    shutil.copytree(trained, folder)
    recipe = yaml.safe_load((folder / "recipe.lock.yaml").read_text("utf-8"))
    recipe["evaluation"]["influence"] = ASKED
    recipe["gate"]["max_forgetting"] = 0.0
    (folder / "recipe.lock.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    journey.evaluate_run(folder, sink=silent)
    return folder


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_some_lost_rows_are_told_their_most_influential_training_rows(run: Path) -> None:
    told = json.loads((run / "evaluation.json").read_text("utf-8"))["influence"]
    lost = [row for row in _lines(run / "predictions.jsonl") if "lost" in row]
    assert (told["lost_rows"], told["of_lost"]) == (min(ASKED, len(lost)), len(lost))
    assert 20 <= told["candidates"] <= told["training_rows"] == 54
    assert told["dimensions"] == told["parameters"] == json.loads((run / "run.json").read_text())["trained_parameters"]
    asked = [row for row in lost if "influential" in row["lost"]]
    assert len(asked) == told["lost_rows"]
    regressed = [row for row in lost if row["outcome"] == "loss"]
    assert all(row in asked for row in regressed[:ASKED])
    for row in asked:
        pulls = row["lost"]["influential"]
        away = [one["similarity"] for one in pulls if one["pulls"] == "away"]
        towards = [one["similarity"] for one in pulls if one["pulls"] == "towards"]
        assert away == sorted(away)
        assert towards == sorted(towards, reverse=True)
        assert 1 <= len(towards) <= 3
        assert all((one["product"] > 0) == (one["similarity"] > 0) for one in pulls)
        assert all("train.jsonl" in one["source"] for one in pulls)


def test_they_stand_in_the_report_and_in_the_rows_to_start_from(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    assert page.count("Most influential training rows") == ASKED
    rows = _lines(run / "lost-rows.jsonl")
    assert sum("influential" in row for row in rows) == ASKED
    told = next(row for row in rows if "influential" in row)
    chat = detect(told)
    assert chat is not None
    parsed = chat.parse(told)
    assert isinstance(parsed, Example)
    assert parsed.metadata["influential"] == told["influential"]


def test_what_may_help_against_forgetting_is_told(run: Path, cli: Callable[..., tiny.Result]) -> None:
    told = json.loads((run / "evaluation.json").read_text("utf-8"))
    assert told["forgetting"]["delta"] > 0
    first = told["against_forgetting"]["remedies"][0]
    assert "rehearsal: {}" in first["lines"]
    assert "rehearsal: {}" in (run / "report.html").read_text("utf-8")
    done = cli("evaluate", run)
    assert done.code == 10
    assert "rehearsal: {}" in done.out
    free = cli("evaluate", run, "--gate", "exact_match=-1", "--gate", "max_forgetting=null", "--json")
    rise = json.loads(free.out)["forgetting"]["delta"]
    assert ("against_forgetting" in json.loads(free.out)) is (rise > 0.1), "judged under the gate that was asked for"


def test_of_methods_without_one_right_answer_it_is_refused(base: Path, tmp_path: Path) -> None:
    recipe = tiny.write_task(tmp_path, base, method={"type": "pretrain"}, evaluation={"influence": 3})
    with pytest.raises(ContentError, match="which rows bear on a wrong answer"):
        prepare(read_recipe(recipe))


def test_a_curve_belongs_to_runs_of_the_same_recipe(trained: Path, base: Path, tmp_path: Path) -> None:
    same = learning_curve._of(learning_curve.with_numbers(prepare(read_recipe(trained / "recipe.lock.yaml"))))
    report_growth.require_same(same, RunDir(trained))
    other = read_recipe(tiny.write_task(tmp_path, base), ["training.learning_rate=0.001"])
    with pytest.raises(ConflictError, match="recipe"):
        learning_curve.learning_curve(other, tmp_path / "curve", sink=silent, run=RunDir(trained))
    assert not (tmp_path / "curve").exists()


def test_the_report_takes_a_curve(trained: Path, tmp_path: Path, cli: Callable[..., tiny.Result]) -> None:
    shutil.copytree(trained, tmp_path / "run")
    known = json.loads((tmp_path / "run/run.json").read_text("utf-8"))
    first = {"name": "exact_match", "unit": "share", "tuned": 0.5, "tuned_ci95": [0.4, 0.6], "ci95": [0.1, 0.2]}
    curve = {
        "metric": "exact_match", "higher_is_better": True, "base": 0.1, "measured_on": "test", "held_out_rows": 8,
        "points": [{"rows": 54, "metrics": [first], "forgetting": None, "train_seconds": 1.0}], "forecast": None,
        "of": {part: known[f"{part}_fingerprint"] for part in ("recipe", "data", "base")},
    }  # fmt: skip
    (tmp_path / "curve.json").write_text(json.dumps(curve), "utf-8")
    assert "Would more rows help?" not in (tmp_path / "run/report.html").read_text("utf-8")
    assert cli("report", tmp_path / "run", "--learning-curve", tmp_path / "curve.json").code == 0
    assert "Would more rows help?" in (tmp_path / "run/report.html").read_text("utf-8")
    assert cli("report", tmp_path / "run").code == 0
    assert "Would more rows help?" in (tmp_path / "run/report.html").read_text("utf-8")
    assert cli("report", tmp_path / "run", "--learning-curve", tmp_path / "none.json").code == 4
    assert cli("pilot", tmp_path / "x.yaml", "--out", tmp_path / "p", "--run", trained).code == 2
