"""Planted cases for `tunesmith compare`: facts that change after training, and a task that is a form alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import planted
import tiny


def compared(task: planted.Task, out: Path, *options: object) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The ways by name, and the recommendation."""
    done = tiny.tunesmith(
        "compare", task.recipe, "--out", out, "--docs", task.documents, "--rows", 80, *options, "--json", patience=850
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"] == 80
    return {way["name"]: way for way in found["ways"]}, found["recommendation"]


def ends(way: dict[str, Any]) -> tuple[float, float]:
    low, high = way["metrics"]["exact_match"]["ci95"]
    return low, high


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_where_facts_change_after_training_tuned_and_retrieval_wins_and_the_advice_says_why(tmp_path: Path) -> None:
    task = planted.stock(tmp_path / "stock")
    ways, advice = compared(task, tmp_path / "table")
    best = ways["fine-tuned + retrieval"]
    for name, way in ways.items():
        if way is not best:
            assert ends(way)[1] < ends(best)[0], f"{name} is surely worse"
    assert advice["take"] == "fine-tuned + retrieval"
    assert advice["ties"] == []
    told = "\n".join(advice["reasons"])
    assert "retrieval helps (fine-tuned + retrieval against" in told
    assert "what is missing is facts, which documents bring, and keep up to date" in told
    assert "training helps (fine-tuned + retrieval against" in told
    assert "facts have changed since they were learned" in told


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_where_the_task_is_a_form_fine_tuning_wins(tmp_path: Path) -> None:
    task = planted.bookings(tmp_path / "bookings")
    ways, advice = compared(task, tmp_path / "table")
    best = ways["fine-tuned"]
    for name, way in ways.items():
        if not name.startswith("fine-tuned"):
            assert ends(way)[1] < ends(best)[0], f"{name} is surely worse"
    assert advice["take"] == "fine-tuned"
    told = "\n".join(advice["reasons"])
    assert "training helps (fine-tuned against" in told
    assert "what is missing is a skill or a format, which training teaches" in told
    assert "retrieval helps" not in told
    assert "facts have changed" not in told
