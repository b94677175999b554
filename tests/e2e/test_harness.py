"""`tunesmith evaluate --lm-eval`: tasks of lm-evaluation-harness on base and tuned model."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from tunesmith.evaluation.harness_config import Outcome, beside
from tunesmith.pipelines.report_tables import tables

INSTALLED = importlib.util.find_spec("lm_eval") is not None
Cli = Callable[..., tiny.Result]

CHOICE = """task: which_thing
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{who}}}} has a"
doc_to_choice: [" cat", " ball", " dog"]
doc_to_target: "{{{{right}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
WRITTEN = """task: say_thing
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{asked}}}}"
doc_to_target: "{{{{said}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def outcome(value: float, rows: tuple[float, ...] = ()) -> Outcome:
    return Outcome("t", "acc", "none", value, 0.1, higher_is_better=True, shots=0, rows=rows, count=len(rows) or 7)


def test_a_mean_of_rows_has_a_paired_interval_and_what_is_none_has_not() -> None:
    base, tuned = tuple([0.0] * 30 + [1.0] * 10), tuple([0.0] * 10 + [1.0] * 30)
    [found] = beside([outcome(0.25, base)], [outcome(0.75, tuned)], resamples=500, seed=0)
    assert found["delta"] == pytest.approx(0.5)
    low, high = found["ci95"]
    assert 0.3 < low < 0.5 < high < 0.7
    spread = 1.96 * np.std(np.subtract(tuned, base)) / np.sqrt(40)
    assert high - low == pytest.approx(2 * spread, rel=0.15), "paired: half of the rows do not change"
    [alone] = beside([outcome(0.25)], [outcome(0.75)], resamples=500, seed=0)
    assert (alone["ci95"], alone["rows"], alone["base_stderr"]) == (None, 7, 0.1)


def test_the_report_has_a_table_of_them() -> None:
    figures = beside([outcome(0.25)], [outcome(0.75)], resamples=500, seed=0)
    [table] = tables({"lm_eval": {"version": "0.4.13", "chat": False, "limit": 5, "figures": figures}})
    assert table.rows == [("t", "acc", "0", "7", "0.250 (± 0.100)", "0.750 (± 0.100)", "-", "higher")]
    assert "The first 5 rows of each" in table.note


def test_without_the_extra_the_mend_is_told(trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tunesmith.evaluation.harness", None)
    done = cli("evaluate", trained, "--lm-eval", "arc_easy")
    assert done.code == 4
    assert "pip install 'tunesmith[lm-eval]'" in done.err


@pytest.mark.parametrize("options", [("--lm-eval", ","), ("--lm-eval-limit", 3), ("--lm-eval", "x", "--data", "y")])
def test_what_does_not_go_together_is_told(trained: Path, cli: Cli, options: tuple[object, ...]) -> None:
    assert cli("evaluate", trained, *options).code == 2


@pytest.mark.skipif(not INSTALLED, reason="needs the extra 'lm-eval' (lm_eval), which is not installed here")
@pytest.mark.filterwarnings("default")  # the harness's own dependencies warn
def test_tasks_of_ones_own_stand_side_by_side_and_in_the_report(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    known = tiny.rows(100, 8)
    asked = [{"asked": row["messages"][0]["content"], "said": row["messages"][1]["content"]} for row in known]
    choices = [{"who": name, "right": number % 3} for number, name in enumerate(tiny.NAMES * 2)]
    for name, text, rows in (("choice", CHOICE, choices), ("written", WRITTEN, asked)):
        place = tiny.write_rows(tmp_path / f"{name}.jsonl", rows)
        (tmp_path / f"{name}.yaml").write_text(text.format(rows=place), "utf-8")
    done = tiny.tunesmith(
        "evaluate", run, "--lm-eval", f"{tmp_path / 'choice.yaml'},{tmp_path / 'written.yaml'}", "--json",
        HF_DATASETS_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["lm_eval"]
    assert found == json.loads((run / "evaluation.json").read_text("utf-8"))["lm_eval"]
    by_task = {one["task"]: one for one in found["figures"]}
    assert by_task["which_thing"]["rows"] == 10
    assert by_task["say_thing"]["rows"] == 8
    for one in found["figures"]:
        assert one["ci95"] is not None
        assert one["ci95"][0] <= one["delta"] <= one["ci95"][1]
    page = (run / "report.html").read_text("utf-8")
    assert "Tasks of lm-evaluation-harness" in page
    assert "which_thing" in page
    wrong = tiny.tunesmith("evaluate", run, "--lm-eval", "no_such_task_at_all")
    assert wrong.returncode == 3
    assert "knows no task 'no_such_task_at_all'" in wrong.stderr
    (tmp_path / "written.jsonl").unlink()
    gone = tiny.tunesmith("evaluate", run, "--lm-eval", tmp_path / "written.yaml",
                          HF_DATASETS_CACHE=str(tmp_path / "other"))  # fmt: skip
    assert gone.returncode == 4, gone.stderr
    assert "the data of say_thing cannot be had" in gone.stderr
