"""Early stopping by the loss and by a metric: when it stops, and which step is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loss import _plan, _rows, _training

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.lora import Lora
from tunesmith.core.errors import ContentError
from tunesmith.core.events import silent
from tunesmith.engine.config import EarlyStoppingSpec
from tunesmith.engine.distributed import World
from tunesmith.engine.evaluate import Validation
from tunesmith.engine.loop import Loop, Outcome, Plan
from tunesmith.evaluation import overfitting
from tunesmith.pipelines import journey
from tunesmith.pipelines.read_recipe import read_recipe


def _run(folder: Path, scores: list[float], **stopping: object) -> Outcome:
    model, adapter = tiny.model(), Lora(LoraSpec(r=2))
    torch.manual_seed(0)
    adapter.attach(model)
    spec = EarlyStoppingSpec(metric="exact_match", **stopping)
    training = _training(batch_size=4, epochs=1, evaluate_every=1, early_stopping=spec)
    plan = _plan(folder, model, adapter.parameters(), _rows(40), training)
    given = iter(scores)
    return Loop(Plan(**vars(plan) | {"validation": _rows(4), "score": lambda: next(given)})).run(resume=False)


def test_the_highest_metric_is_kept_whatever_the_loss(tmp_path: Path) -> None:
    outcome = _run(tmp_path, [0.1, 0.4, 0.3, 0.4, 0.2, 0.9], patience=3)
    assert (outcome.progress.step, outcome.kept_step, outcome.progress.stopped_early) == (5, 2, True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    watched = [(line["step"], line["validation_exact_match"]) for line in lines if "validation_loss" in line]
    assert watched == [(1, 0.1), (2, 0.4), (3, 0.3), (4, 0.4), (5, 0.2)]


def test_a_gain_below_min_delta_is_none(tmp_path: Path) -> None:
    outcome = _run(tmp_path, [0.10, 0.11, 0.12, 0.5], patience=2, min_delta=0.05)
    assert (outcome.progress.step, outcome.kept_step) == (3, 1)


class _Rank1(World):
    """The second of two processes; what rank 0 shares is given."""

    def __init__(self, shared: list[float]):
        super().__init__(1, 2)
        self._shared = iter(shared)

    def share(self, value: Any) -> Any:
        return next(self._shared)


def test_every_process_decides_by_the_number_of_rank_0(tmp_path: Path) -> None:
    """Greedy answers may differ between devices in a last digit; processes that decide apart wait for each other."""
    model, adapter = tiny.model(), Lora(LoraSpec(r=2))
    adapter.attach(model)
    training = _training(batch_size=4, epochs=1, early_stopping=EarlyStoppingSpec(metric="exact_match"))
    plan = Plan(**vars(_plan(tmp_path, model, adapter.parameters(), _rows(8), training)) | {"score": lambda: 0.9})
    loop = Loop(plan)
    loop.plan = Plan(**vars(plan) | {"world": _Rank1([0.4])})
    assert loop._watched(Validation(1.0, {})) == 0.4


def test_a_recipe_names_the_metric_and_the_validation_rows_are_answered(tmp_path: Path) -> None:
    recipe = tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base"))
    settings = ["training.early_stopping={metric: token_f1, patience: 2}", "training.max_steps=20"]
    run = journey.train_only(read_recipe(recipe, settings), tmp_path / "run", resume=False, sink=silent)
    lines = run.read_lines("metrics.jsonl")
    scores = [line["validation_token_f1"] for line in lines if "validation_loss" in line]
    assert len(scores) == 2
    assert all(0 <= score <= 1 for score in scores)


def test_the_report_says_by_what_the_step_is_kept() -> None:
    curve = [(1, 3.0), (2, 2.5), (3, 2.0)]
    said = overfitting.judge(curve, curve, 2, stopped_early=True, watched="exact_match").explanation
    assert "Step 2 is kept, because its validation exact_match is the highest." in said
    said = overfitting.judge(curve, curve, 3, stopped_early=False).explanation
    assert "Step 3 is kept, because its validation loss is the lowest." in said


def test_an_unknown_metric_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    recipe = tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base"))
    spec = read_recipe(recipe, ["training.early_stopping={metric: exact_mach}"])
    with pytest.raises(ContentError, match="unknown metric 'exact_mach'") as told:
        journey.train_only(spec, tmp_path / "run", resume=False, sink=silent)
    assert told.value.where == "training.early_stopping.metric"
    assert "did you mean 'exact_match'" in str(told.value.mend)
    assert not (tmp_path / "run").exists()
