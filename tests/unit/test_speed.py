"""`tunesmith bench`: some steps of a recipe tell what the whole will take, and leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from tunesmith.core.errors import ContentError
from tunesmith.core.events import silent
from tunesmith.engine.config import TrainingSpec
from tunesmith.engine.steps import Steps
from tunesmith.pipelines import journey, speed
from tunesmith.pipelines.read_recipe import read_recipe

SETTINGS = ["training.epochs=3", "data.validation=0", "data.test=null"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed")
    return tiny.write_task(folder, tiny.base_folder(folder / "base"))


def test_it_tells_of_the_whole_training_what_the_training_will_be(task: Path) -> None:
    before = sorted(task.parent.rglob("*"))
    spec = read_recipe(task, SETTINGS)
    found = speed.measure(spec, task.parent, 2, silent)
    assert sorted(task.parent.rglob("*")) == before
    assert (found.steps, found.number_type) == (2, "fp32")
    assert found.tokens > 0
    assert 0 < found.tokens_per_s == found.tokens / found.seconds
    assert found.train_seconds == pytest.approx(found.planned_tokens * found.seconds / found.tokens)
    assert found.share is not None
    assert 0 < found.share < 1
    assert json.loads(json.dumps(found.as_json()))["planned_steps"] == found.planned_steps

    run = journey.train_only(spec, task.parent / "run", resume=False, sink=silent, folder=task.parent)
    facts = run.read_json("run.json")
    assert facts["steps"] == found.planned_steps
    assert found.planned_tokens == pytest.approx(facts["trained_tokens"], rel=0.02)


def test_the_longest_step_goes_first_and_the_others_are_spread_over_the_lengths() -> None:
    lengths = list(range(10, 74))
    plan = [step for _, step in Steps(lengths, [1] * 64, TrainingSpec(batch_size=4, epochs=1), 3).after(0)]
    chosen = speed._spread(plan, lengths, 4)
    sums = [sum(lengths[row] for micro in step for row in micro) for step in chosen]
    every = sorted(sum(lengths[row] for micro in step for row in micro) for step in plan)
    assert sums == [every[15], every[2], every[6], every[10], every[14]]


def test_what_cannot_be_trained_is_refused_as_in_a_training(task: Path) -> None:
    with pytest.raises(ContentError, match="only 8 training rows"):
        speed.measure(
            read_recipe(task, ["data.train={path: train.jsonl, limit: 8}", "data.validation=0", "data.test=null"]),
            task.parent,
            2,
            silent,
        )
