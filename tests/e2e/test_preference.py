"""Learning from preferences, the whole way: check, score the base, train, score again, judge, resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import processes
import tiny

Cli = Callable[..., tiny.Result]
LOSSES = ("dpo", "robust", "ipo", "hinge", "orpo", "simpo", "cpo", "apo_zero", "apo_down")


def _pairs(first: int, count: int) -> list[dict[str, Any]]:
    """A dog is always the better answer: a tiny base is too small to read, not to prefer."""
    others = [thing for thing in tiny.THINGS if thing != "dog"]
    return [
        {"prompt": row["messages"][:1], "chosen": "dog", "rejected": others[number % 5], "kind": row["kind"]}
        for number, row in enumerate(tiny.rows(first, count))
    ]


def _judged(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"messages": [*pair["prompt"], {"role": "assistant", "content": pair[name]}], "label": name == "chosen"}
        for number, pair in enumerate(_pairs(first, count))
        for name in (("chosen", "rejected")[number % 2],)
    ]


def _task(folder: Path, base: Path, method: Any, rows: Any = _pairs, **sections: Any) -> Path:
    training = tiny.recipe(base)["training"] | {"max_steps": 12, "learning_rate": 0.01, "evaluate_every": 4}
    evaluation = {"metrics": "auto"}
    gate = {"require": {"preference_accuracy": -1.0}, "max_forgetting": None}
    recipe = tiny.write_task(folder, base, method=method, **{
        "training": training, "evaluation": evaluation, "gate": gate} | sections)  # fmt: skip
    tiny.write_rows(folder / "train.jsonl", rows(0, 60))
    tiny.write_rows(folder / "test.jsonl", rows(100, 24))
    return recipe


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A finished DPO run. Do not change it."""
    folder = tmp_path_factory.mktemp("dpo")
    done = tiny.tunesmith("run", _task(folder, base, {"type": "preference"}), "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_dpo_learns_which_answer_is_better(run: Path) -> None:
    evaluation = _read(run / "evaluation.json")
    metric = evaluation["metrics"][0]
    assert (metric["name"], metric["base"]) == ("preference_accuracy", 0.5)
    assert metric["tuned"] > 0.6
    [baseline] = evaluation["baselines"]
    assert baseline["name"] == "the longer answer"
    length = {thing: len(tiny.tokenizer()(thing)["input_ids"]) for thing in tiny.THINGS}
    pairs = [(length[pair["chosen"]], length[pair["rejected"]]) for pair in _pairs(100, 24)]
    assert baseline["score"] == pytest.approx(sum((c > r) + 0.5 * (c == r) for c, r in pairs) / len(pairs))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [line for line in lines if "learning_rate" in line]
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "before the first update both answers have no reward"
    assert (steps[0]["accuracy"], steps[0]["margin"]) == (0.5, 0.0)
    assert steps[-1]["margin"] > 0
    assert "validation_accuracy" in lines[4]
    report = (run / "report.html").read_text("utf-8")
    assert "learning from preferences (DPO)" in report
    assert "the longer answer" in report


def test_its_adapter_is_served_like_any_other(run: Path, cli: Cli) -> None:
    done = cli("generate", run, "--prompt", "Tom has a ball, no 3. What?", "--max-tokens", 4, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["text"]


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "dpo"])
def test_every_loss_trains(loss: str, base: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = _task(tmp_path, base, {"type": "preference", "loss": loss})
    done = cli("train", recipe, "--out", tmp_path / "run", "--set", "training.max_steps=8")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    margins = [line["margin"] for line in lines if "learning_rate" in line]
    # Of all batches behind the first update: one of four pairs tells little.
    assert sum(margins[1:]) / 7 > margins[0], "the chosen answers gain on the rejected ones"
    assert (tmp_path / "run/reference-train.safetensors").exists() == (loss not in ("orpo", "simpo", "cpo"))


@pytest.mark.parametrize("settings", [["data.on_overlap=drop"], ["data.test=0.2"]], ids=["drop", "drawn"])
def test_other_pairs_need_the_training_pairs_that_the_test_pairs_chose(
    settings: list[str], base: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe = _task(tmp_path, base, {"type": "preference"})
    shared = _pairs(100, 3)  # training pairs that are test pairs too, and are left out
    tiny.write_rows(tmp_path / "train.jsonl", [*_pairs(0, 60), *shared])
    asked = [word for setting in [*settings, "training.max_steps=2"] for word in ("--set", setting)]
    assert cli("run", recipe, "--out", tmp_path / "run", *asked).code in (0, 10)
    other = tiny.write_rows(tmp_path / "other.jsonl", [*_pairs(200, 6), *(shared if "drop" in settings[0] else [])])
    done = cli("evaluate", tmp_path / "run", "--data", other, "--json")
    assert done.code in (0, 10), done.err
    known = tiny.write_rows(tmp_path / "known.jsonl", _pairs(0, 60))
    refused = cli("evaluate", tmp_path / "run", "--data", known)
    assert (refused.code, "is also in the test file" in refused.err) == (3, True)


@pytest.mark.parametrize("rows", [_judged, _pairs])
def test_kto_learns_from_judged_answers_and_from_pairs(rows: Any, base: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = _task(tmp_path, base, {"type": "preference", "loss": {"type": "kto"}}, rows)
    done = cli("run", recipe, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    metric = _read(tmp_path / "run/evaluation.json")["metrics"][0]
    assert (metric["name"], metric["base"]) == ("preference_accuracy", 0.5)
    assert metric["tuned"] > 0.55


def test_full_fine_tuning_keeps_the_base_as_its_reference(base: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = _task(tmp_path, base, {"type": "preference"}, adapter={"type": "full"})
    done = cli("train", recipe, "--out", tmp_path / "run", "--set", "training.learning_rate=0.001")
    assert done.code == 0, done.err
    first = json.loads((tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_answers_are_generated_and_scored_against_the_chosen_one(base: Path, tmp_path: Path, cli: Cli) -> None:
    evaluation = {"metrics": ["exact_match", "preference_accuracy"], "max_tokens": 4}
    recipe = _task(tmp_path, base, {"type": "preference"}, evaluation=evaluation)
    done = cli("run", recipe, "--out", tmp_path / "run", "--json", "--set", "training.max_steps=2")
    assert done.code == 0, done.err
    names = [metric["name"] for metric in _read(tmp_path / "run/evaluation.json")["metrics"]]
    assert names == ["exact_match", "preference_accuracy", "loss", "perplexity"]


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(run: Path, tmp_path: Path) -> None:
    processes.require_killed_and_resumed_equals(run, run.parent / "recipe.yaml", tmp_path, steps=7)


@pytest.mark.parametrize(
    ("method", "rows", "says"),
    [
        ({"type": "preference"}, tiny.rows, ["kind 'supervised'", "learns from preference rows", "sft"]),
        ({"type": "preference"}, _judged, ["labelled", "kto"]),
        ({"type": "sft"}, _pairs, ["kind 'preference'", "method"]),
        ({"type": "preference", "loss": "dop"}, _pairs, ["dop", "dpo"]),
        ({"type": "preferences"}, _pairs, ["preferences", "preference"]),
    ],
)
def test_rows_and_method_that_do_not_go_together(
    method: Any, rows: Any, says: list[str], base: Path, tmp_path: Path, cli: Cli
) -> None:
    done = cli("train", _task(tmp_path, base, method, rows), "--out", tmp_path / "run")
    assert done.code == 3, done.err
    assert all(word in done.err for word in says), done.err
    assert not (tmp_path / "run").exists()
