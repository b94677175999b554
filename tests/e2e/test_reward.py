"""A reward model, the whole way: check, score the base, train, score again, judge, resume, export, use."""

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


def pairs(first: int, count: int) -> list[dict[str, Any]]:
    """The right thing against its letters from behind; how much better it is, is in the row."""
    rows = []
    for number, row in enumerate(tiny.rows(first, count)):
        right = row["messages"][1]["content"]
        rows.append(
            {"prompt": row["messages"][:1], "chosen": right, "rejected": right[::-1], "kind": row["kind"],
             "score_chosen": 2.0, "score_rejected": 0.5 * (number % 3)}
        )  # fmt: skip
    return rows


def task(folder: Path, base: Path, method: Any, rows: Any = pairs, **sections: Any) -> Path:
    """A recipe beside its rows."""
    training = tiny.recipe(base)["training"] | {"max_steps": 12, "learning_rate": 0.01, "evaluate_every": 4}
    gate = {"require": {"preference_accuracy": -1.0}, "max_forgetting": 0.1}
    given = {"training": training, "evaluation": {"slices": ["kind"]}, "gate": gate} | sections
    recipe = tiny.write_task(folder, base, method=method, **given)
    tiny.write_rows(folder / "train.jsonl", rows(0, 60))
    tiny.write_rows(folder / "test.jsonl", rows(100, 24))
    return recipe


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A finished run. Do not change it."""
    folder = tmp_path_factory.mktemp("reward")
    done = tiny.tunesmith("run", task(folder, base, {"type": "reward"}), "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout, "utf-8")
    return folder / "run"


def test_it_learns_which_answer_is_better(run: Path) -> None:
    evaluation = _read(run / "evaluation.json")
    first, loss, _ = evaluation["metrics"]
    assert (first["name"], first["base"]) == ("preference_accuracy", 0.5), "a head that was never trained has ties only"
    assert first["tuned"] > 0.8
    assert loss["base"] == pytest.approx(0.6931, abs=1e-4)
    assert loss["tuned"] < 0.65
    assert evaluation["baselines"][0]["name"] == "the longer answer"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [line for line in lines if "learning_rate" in line]
    assert (steps[0]["accuracy"], steps[0]["margin"]) == (0.5, 0.0)
    assert steps[-1]["margin"] > 0
    assert "validation_accuracy" in lines[4]


def test_its_certainty_is_told_beside_its_accuracy(run: Path) -> None:
    found = _read(run / "evaluation.json")["calibration"]
    assert (found["base"]["ece"], found["base"]["brier"]) == (0.0, 0.25)
    [only] = found["base"]["bins"]
    assert (only["pairs"], only["certainty"], only["accuracy"]) == (24, 0.5, 0.5)
    assert found["tuned"]["brier"] < 0.25
    assert sum(one["pairs"] for one in found["tuned"]["bins"]) == 24
    report = (run / "report.html").read_text("utf-8")
    assert "a reward model (Bradley-Terry)" in report
    assert "Certainty of the reward model" in report


def test_what_it_forgot_is_said_to_be_unmeasured(run: Path) -> None:
    evaluation = _read(run / "evaluation.json")
    assert evaluation["forgetting"]["delta"] is None
    assert "no vocabulary head" in evaluation["forgetting"]["unmeasured"]
    assert [reason["text"] for reason in evaluation["reasons"] if "forgetting" in reason["text"]] == []
    assert evaluation["verdict"] == "pass"
    assert "forgetting: not measured" in (run.parent / "stdout.txt").read_text("utf-8")
    assert "Forgetting was not measured" in (run / "report.html").read_text("utf-8")


def test_the_adapter_is_peft_s(run: Path) -> None:
    config = _read(run / "adapter/adapter_config.json")
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["score"])


def test_answers_are_scored_through_the_api(run: Path) -> None:
    from tunesmith import api
    from tunesmith.pipelines.judges import RewardModel

    row = pairs(100, 1)[0]
    prompt = row["prompt"][0]["content"]
    chosen, rejected = api.score_answers(run, [(prompt, row["chosen"]), (prompt, row["rejected"])])
    predicted = json.loads((run / "predictions.jsonl").read_text("utf-8").splitlines()[0])["tuned"]
    assert predicted == f"chosen {chosen:+.3f}, rejected {rejected:+.3f}"
    model = RewardModel(run)
    apart = [model.scores([(prompt, answer)])[0] for answer in (row["chosen"], row["rejected"])]
    assert apart == pytest.approx([chosen, rejected], abs=1e-5), "a batch changes nothing"


def test_it_writes_no_answers(run: Path, cli: Cli) -> None:
    done = cli("generate", run, "--prompt", "Tom has a ball, no 3. What?")
    assert done.code == 3
    assert "writes no answers" in done.err
    assert "score_answers" in done.err


def test_it_is_exported_as_transformers_class(run: Path, tmp_path: Path, cli: Cli) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tunesmith import api

    done = cli("export", run, "--to", "merged", "--out", tmp_path / "merged", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["largest_difference"] < 1e-4
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "merged")
    row = pairs(100, 1)[0]
    text = words.apply_chat_template([*row["prompt"], {"role": "assistant", "content": row["chosen"]}], tokenize=False)
    with torch.no_grad():
        found = plain(input_ids=words(text, add_special_tokens=False, return_tensors="pt")["input_ids"]).logits
    wanted = api.score_answers(run, [(row["prompt"][0]["content"], row["chosen"])])
    assert found.squeeze().item() == pytest.approx(wanted[0], abs=1e-4)


def test_full_fine_tuning_writes_a_model(base: Path, tmp_path: Path, cli: Cli) -> None:
    from transformers import AutoModelForSequenceClassification

    recipe = task(tmp_path, base, {"type": "reward"}, adapter={"type": "full"})
    done = cli("run", recipe, "--out", tmp_path / "run", "--set", "training.learning_rate=0.001", "--json")
    assert done.code == 0, done.err
    metrics = json.loads(done.out)["metrics"]
    assert (metrics[0]["base"], metrics[1]["base"]) == (0.5, pytest.approx(0.6931, abs=1e-4))
    assert metrics[1]["tuned"] < metrics[1]["base"]
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run/model")
    assert loaded.config.num_labels == 1
    assert loaded.score.weight.abs().max() > 0
    assert cli("evaluate", tmp_path / "run", "--fresh").code == 0


def test_killed_and_resumed_equals_uninterrupted(run: Path, tmp_path: Path) -> None:
    processes.require_killed_and_resumed_equals(run, run.parent / "recipe.yaml", tmp_path, steps=7)


def test_a_margin_of_the_rows_is_asked_for(base: Path, tmp_path: Path, cli: Cli) -> None:
    """Before the first step both rewards are 0, so that the loss is -log s(-m), m = 2, 1.5 or 1 in equal shares."""
    method = {"type": "reward", "margin": ["score_chosen", "score_rejected"], "centring": 0.0}
    recipe = task(tmp_path, base, method, data={"train": "train.jsonl", "test": "test.jsonl"})
    more = ["--set", "training.max_steps=1", "--set", "training.batch_size=60"]
    done = cli("train", recipe, "--out", tmp_path / "run", *more)
    assert done.code == 0, done.err
    first = json.loads((tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()[0])
    expected = sum(float(torch.nn.functional.softplus(torch.tensor(m))) for m in (2.0, 1.5, 1.0)) / 3
    assert first["loss"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("method", "sections", "says"),
    [
        ({"type": "reward", "margin": "gap"}, {}, ["under 'gap'", "is not there", "score_chosen", "train.jsonl:"]),
        ({"type": "reward", "margin": "kind"}, {}, ["under 'kind'", "holds '"]),
        ({"type": "reward", "margin": ["score_rejected", "score_chosen"]}, {}, ["rejected answer is the better one"]),
        ({"type": "reward"}, {"evaluation": {"metrics": ["exact_match"]}}, ["'exact_match' scores answers"]),
        ({"type": "reward"}, {"gate": {"require": {}}}, ["no condition"]),
        ({"type": "reward"}, {"data": {"train": "train.jsonl", "test": "test.jsonl",
                                       "curriculum": {"by": "base_loss"}}}, ["base_loss"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    method: Any, sections: Any, says: list[str], base: Path, tmp_path: Path, cli: Cli
) -> None:
    done = cli("run", task(tmp_path, base, method, **sections), "--out", tmp_path / "run")
    assert done.code == 3, done.err
    assert all(word in done.err for word in says), done.err
    assert not (tmp_path / "run").exists()


def test_conversations_are_refused(base: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("train", task(tmp_path, base, {"type": "reward"}, tiny.rows), "--out", tmp_path / "run")
    assert done.code == 3
    assert "learns from preference rows" in done.err
