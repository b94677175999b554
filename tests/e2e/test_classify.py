"""Classification by a head, the whole way: check, score the base, train, score again, judge, resume, export, use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import processes
import tiny

Cli = Callable[..., tiny.Result]
METHOD = {"type": "classify", "label_smoothing": 0.05}


def asked(first: int, count: int) -> list[dict[str, Any]]:
    """Who has the thing; Tom most often."""
    rows = []
    for row in tiny.rows(first, count):
        prompt, name = row["messages"][0], row["kind"]
        label = name if name in ("Tom", "Lily", "Sue") else "Tom"
        turns = [prompt | {"content": f"{label}: {prompt['content'].split('.')[0]}"}]
        rows.append({"messages": [*turns, {"role": "assistant", "content": label}], "kind": name})
    return rows


def task(folder: Path, base: Path, method: Any = METHOD, rows: Any = asked, **sections: Any) -> Path:
    """A recipe beside its rows."""
    training = tiny.recipe(base)["training"] | {"max_steps": 24, "learning_rate": 0.01, "evaluate_every": 8}
    gate = {"require": {"accuracy": 0.05}}
    given = {"training": training, "evaluation": {"slices": ["kind"]}, "gate": gate} | sections
    recipe = tiny.write_task(folder, base, method=method, **given)
    tiny.write_rows(folder / "train.jsonl", rows(0, 60))
    tiny.write_rows(folder / "test.jsonl", rows(100, 25))
    return recipe


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A finished run. Do not change it."""
    folder = tmp_path_factory.mktemp("classify")
    done = tiny.tunesmith("run", task(folder, base), "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout, "utf-8")
    return folder / "run"


def test_it_learns_the_labels(run: Path) -> None:
    evaluation = _read(run / "evaluation.json")
    accuracy, loss, perplexity = evaluation["metrics"]
    assert (accuracy["name"], accuracy["base"]) == ("accuracy", 0.6), "untrained, it says the most frequent label"
    assert accuracy["tuned"] > 0.9
    assert loss["base"] == pytest.approx(1.0986, abs=1e-4)
    assert perplexity["base"] == pytest.approx(3, abs=1e-3)
    baselines = {b["name"]: b["score"] for b in evaluation["baselines"]}
    assert baselines["most frequent label"] == 0.6
    assert baselines["nearest training row"] > 0.5
    assert evaluation["forgetting"]["delta"] is None
    steps = [line for line in _lines(run / "metrics.jsonl") if "learning_rate" in line]
    assert steps[-1]["accuracy"] > steps[0]["accuracy"]


def test_labels_are_told_one_by_one(run: Path) -> None:
    found = _read(run / "evaluation.json")["classes"]
    base, tuned = found["base"], found["tuned"]
    assert base["macro_f1"] == pytest.approx(0.25, abs=1e-9), "F1 of Tom is 2 * 0.6 / 1.6 = 0.75, of the others 0"
    assert tuned["macro_f1"] > 0.8
    assert {one["label"]: one["rows"] for one in base["labels"]} == {"Tom": 15, "Lily": 5, "Sue": 5}
    assert sorted(base["confusions"]) == [["Lily", "Tom", 5], ["Sue", "Tom", 5]]
    report = (run / "report.html").read_text("utf-8")
    assert "classification, 3 labels" in report
    assert "Macro F1 25.0%" in report
    assert "most frequent label" in report


def test_the_labels_stand_in_the_lock_by_frequency(run: Path) -> None:
    from tunesmith.pipelines.rundir import RunDir

    assert RunDir(run).recipe().method.labels == ("Tom", "Lily", "Sue")


def test_predictions_show_labels(run: Path) -> None:
    row = _lines(run / "predictions.jsonl")[1]
    assert (row["reference"], row["base"]) == ("Lily", "Tom")
    assert row["tuned"] in ("Tom", "Lily", "Sue")


def test_generate_says_the_label_that_was_scored(run: Path, cli: Cli) -> None:
    for row in _lines(run / "predictions.jsonl")[:4]:
        prompt = row["prompt"][0]["content"]
        assert cli("generate", run, "--prompt", prompt).out == f"{row['tuned']}\n"
        told = json.loads(cli("generate", run, "--prompt", prompt, "--json").out)
        assert told["text"] == row["tuned"] == max(told["probabilities"], key=told["probabilities"].get)
        assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        base = json.loads(cli("generate", run, "--prompt", prompt, "--json", "--base").out)
        assert base["probabilities"] == pytest.approx(dict.fromkeys(("Tom", "Lily", "Sue"), 1 / 3), abs=1e-6)


def test_the_api_gives_every_label_s_probability(run: Path, cli: Cli) -> None:
    from tunesmith import api

    row = _lines(run / "predictions.jsonl")[0]
    [found] = api.classify(run, [row["prompt"][0]["content"]])
    assert next(iter(found)) == row["tuned"]
    with pytest.raises(api.TunesmithError, match="no reward model"):
        api.score_answers(run, [("a", "b")])
    assert cli("chat", run).code == 3


def test_it_is_exported_as_transformers_class(run: Path, tmp_path: Path, cli: Cli) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    done = cli("export", run, "--to", "merged", "--out", tmp_path / "merged", "--json")
    assert done.code == 0, done.err
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert plain.config.id2label == {0: "Tom", 1: "Lily", 2: "Sue"}
    words = AutoTokenizer.from_pretrained(tmp_path / "merged")
    rows = _lines(run / "predictions.jsonl")[:5]
    texts = [words.apply_chat_template(r["prompt"], tokenize=False, add_generation_prompt=True) for r in rows]
    given = words(texts, add_special_tokens=False, return_tensors="pt", padding=True, padding_side="right")
    with torch.no_grad():
        said = plain(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits.argmax(-1)
    assert [plain.config.id2label[i] for i in said.tolist()] == [row["tuned"] for row in rows]


def test_full_fine_tuning_and_balanced_weights(base: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = task(tmp_path, base, METHOD | {"class_weights": "balanced"}, adapter={"type": "full"})
    done = cli("run", recipe, "--out", tmp_path / "run", "--set", "training.learning_rate=0.002", "--json")
    assert done.code == 0, done.err
    told = cli("generate", tmp_path / "run", "--prompt", "Sue: Sue has a cup", "--base", "--json")
    assert set(json.loads(told.out)["probabilities"]) == {"Tom", "Lily", "Sue"}
    assert cli("evaluate", tmp_path / "run", "--fresh").code == 0


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(run: Path, tmp_path: Path) -> None:
    processes.require_killed_and_resumed_equals(run, run.parent / "recipe.yaml", tmp_path, steps=13)


def _one_label(first: int, count: int) -> list[dict[str, Any]]:
    return [row | {"messages": [row["messages"][0], {"role": "assistant", "content": "yes"}]}
            for row in asked(first, count)]  # fmt: skip


def _new_in_the_test(first: int, count: int) -> list[dict[str, Any]]:
    rows = asked(first, count)
    if first:
        rows[3]["messages"][1] = {"role": "assistant", "content": "Lilly"}
    return rows


@pytest.mark.parametrize(
    ("method", "rows", "says"),
    [
        (METHOD, _new_in_the_test, ["no training row has", "'Lilly' may be 'Lily'", "test.jsonl:4"]),
        (METHOD, _one_label, ["every answer is 'yes'"]),
        (METHOD | {"most_labels": 2}, asked, ["3 different texts", "most_labels"]),
        (METHOD | {"labels": ["Tom", "Lily"]}, asked, ["method.labels does not name: 'Sue'", "train.jsonl:"]),
        (METHOD | {"labels": ["Tom", "Tom"]}, asked, ["each named once"]),
        (METHOD | {"class_weights": {"Tim": 2.0}}, asked, ["'Tim'", "did you mean 'Tom'"]),
    ],
)
def test_what_cannot_be_is_refused(
    method: Any, rows: Any, says: list[str], base: Path, tmp_path: Path, cli: Cli
) -> None:
    done = cli("run", task(tmp_path, base, method, rows), "--out", tmp_path / "run")
    assert done.code == 3, done.err
    assert all(word in done.err for word in says), done.err
    assert not (tmp_path / "run").exists()


def test_a_metric_of_answers_is_refused(base: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = task(tmp_path, base, evaluation={"metrics": ["accuracy", "rouge_l"]})
    done = cli("run", recipe, "--out", tmp_path / "run")
    assert done.code == 3
    assert "'rouge_l' scores answers" in done.err
