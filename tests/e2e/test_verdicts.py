"""Four runs that went wrong, each on the bundled base, and each told so for the right reason."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import tiny

TICKETS = Path(str(files("tunesmith.pipelines.demo")))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _run(folder: Path, rows: int, settings: dict[str, Any], more: list[dict[str, Any]] | None = None) -> Any:
    """(exit code, evaluation, stderr) of a run on so many packaged tickets; `more` are rows beside them."""
    train = [json.loads(line) for line in (TICKETS / "train.jsonl").read_text("utf-8").splitlines()[:rows]]
    recipe = {
        "name": "verdict", "seed": 1, "base": "bundled/tunesmith-8m",
        "data": {
            "train": str(tiny.write_rows(folder / "train.jsonl", train + (more or []))), "validation": 0.2,
            "test": {"path": str(TICKETS / "test.jsonl"), "limit": 40},
        },
        "adapter": {"type": "lora", "r": 16, "alpha": 32},
        "evaluation": {"metrics": ["field_f1", "exact_match"], "memorisation": {"rows": 40, "asked": 10}},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe | settings), "utf-8")
    done = tiny.tunesmith("run", folder / "recipe.yaml", "--out", folder / "run", "--quiet", patience=600)
    file = folder / "run/evaluation.json"
    return done.returncode, json.loads(file.read_text("utf-8")) if file.is_file() else None, done.stderr


def test_one_that_learned_its_rows_by_heart(tmp_path: Path) -> None:
    training = {"epochs": 20, "batch_size": 8, "learning_rate": 4e-3, "schedule": "constant", "evaluate_every": 15}
    _, found, error = _run(tmp_path, 50, {"training": training})
    assert found, error
    assert found["overfitting"]["verdict"] == "overfitting"
    assert found["overfitting"]["best_step"] < found["overfitting"]["last_step"]
    membership = found["memorisation"]["membership"]
    assert membership["against_base"]["ci95"][0] > 0.6, "its losses tell its rows"
    assert abs(membership["base"]["auc"] - 0.5) < abs(membership["tuned"]["auc"] - 0.5)


def test_one_that_forgot_all_else(tmp_path: Path) -> None:
    training = {"epochs": 4, "batch_size": 8, "learning_rate": 8e-3, "schedule": "constant"}
    code, found, error = _run(tmp_path, 200, {"training": training, "adapter": {"type": "full"}})
    assert code == 10, error
    assert found["forgetting"]["delta"] > 0.5
    assert any("forgetting" in reason["text"] and not reason["ok"] for reason in found["reasons"])
    assert found["skills"]["all"]["tuned"] < found["skills"]["all"]["base"]


def test_one_whose_test_rows_leaked(tmp_path: Path) -> None:
    test = [json.loads(line) for line in (TICKETS / "test.jsonl").read_text("utf-8").splitlines()[:3]]
    code, found, error = _run(tmp_path, 60, {}, more=test)
    assert (code, found) == (3, None), error
    assert "the prompt of this training row is also in the test file" in error
    assert all(f"train.jsonl:{60 + i} = test.jsonl:{i}" in error for i in (1, 2, 3))


def test_one_that_is_no_better(tmp_path: Path) -> None:
    training = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-7}
    code, found, error = _run(tmp_path, 60, {"training": training})
    assert code == 10, error
    [reason] = [reason for reason in found["reasons"] if not reason["ok"]]
    assert "field_f1 is not surely better" in reason["text"]
    low, high = found["metrics"][0]["ci95"]
    assert low <= 0 <= high
