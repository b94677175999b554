"""`tunesmith pilot`: trials under one budget, the recipe that wins, and the learning curve."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import processes
import tiny
from tunesmith.core.errors import ContentError, TunesmithError, UsageError
from tunesmith.core.events import silent
from tunesmith.pipelines import pilot
from tunesmith.pipelines.candidates import Candidate, asked_for
from tunesmith.pipelines.read_recipe import read_recipe


def task(folder: Path, base: Path, **sections: object) -> Path:
    """A recipe with enough validation rows to choose by."""
    data = {"train": "train.jsonl", "validation": 0.3, "test": "test.jsonl"}
    training = {"epochs": 4, "batch_size": 4, "learning_rate": 0.005, "precision": "fp32"}
    return tiny.write_task(folder, base, **{"data": data, "training": training} | sections)


@pytest.mark.slow
def test_the_better_candidates_get_more_rows_and_the_best_one_is_a_recipe(base: Path, tmp_path: Path) -> None:
    recipe, out = task(tmp_path, base), tmp_path / "pilot"
    done = tiny.tunesmith(
        "pilot", recipe, "--out", out, "--budget", "1m", "--try", "adapter.r=2,4", "--try",
        "training.learning_rate=0.000001,0.005", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((out / "pilot.json").read_text("utf-8"))
    assert len(found["rungs"][0]["trials"]) == 4
    assert found["rungs"][0]["rows"] <= 42  # 60 rows, less the validation rows
    assert found["validation_rows"] == 18
    assert "training.learning_rate=0.005" in found["winner"]["settings"]
    assert found["winner"]["name"] not in found["not_surely_worse"]
    first = found["rungs"][0]["trials"][0]
    assert first["steps"] > 0
    assert first["memory_mb"] > 50
    assert first["trained_parameters"] > 0
    assert first["forgetting"] is not None
    chosen = read_recipe(out / "recipe.yaml")
    assert chosen.training.learning_rate == 0.005
    assert chosen.data == read_recipe(recipe).data
    assert list((out / "trials").glob("*/checkpoints")) == []
    again = tiny.tunesmith("pilot", recipe, "--out", out)
    assert again.returncode == 6


def test_test_rows_are_not_looked_at(base: Path, tmp_path: Path) -> None:
    recipe = task(tmp_path, base)
    candidates = asked_for(lambda more: read_recipe(recipe, list(more)), ["adapter.r=2,4"])
    made = pilot.Pilot(candidates, tmp_path / "out", 60, silent, None)
    test = {row["messages"][0]["content"] for row in tiny.rows(100, 8)}
    for ready in made._prepared:
        assert not test & {row.messages[0].content for row in ready.test.examples}


def test_a_budget_that_is_too_short_says_how_much_is_needed(base: Path, tmp_path: Path) -> None:
    recipe = task(tmp_path, base)
    candidates = asked_for(lambda more: read_recipe(recipe, list(more)), ["adapter.r=2,4"])
    with pytest.raises(UsageError, match="too short") as caught:
        pilot.Pilot(candidates, tmp_path / "out", 0.1, silent, None).run()
    assert "--budget" in str(caught.value.mend)


def test_a_trial_that_fails_is_told_and_does_not_win(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = task(tmp_path, base)
    candidates = asked_for(lambda more: read_recipe(recipe, list(more)), ["adapter.r=2,4"])
    whole = pilot.attempt

    def broken(prepared, places, base, folder, sink, **how):  # type: ignore[no-untyped-def]
        if prepared.spec.adapter.r == 2 and folder.name.startswith("01"):
            raise TunesmithError("it burst")
        return whole(prepared, places, base, folder, sink, **how)

    monkeypatch.setattr(pilot, "attempt", broken)
    found = pilot.Pilot(candidates, tmp_path / "out", 60, silent, None).run()
    assert found["winner"]["settings"] == ["adapter.r=4"]
    assert [one["failed"] for one in found["rungs"][0]["trials"]] == [None, "it burst"]


@pytest.mark.slow
def test_a_killed_pilot_goes_on_and_trains_nothing_twice(
    base: Path, tmp_path: Path, cli: Callable[..., tiny.Result]
) -> None:
    training = {"epochs": 16, "batch_size": 4, "learning_rate": 0.005, "precision": "fp32", "early_stopping": None}
    recipe, out = task(tmp_path, base, training=training), tmp_path / "pilot"
    asked = ("pilot", recipe, "--out", out, "--try", "adapter.r=2,4")

    def second_has_a_checkpoint() -> bool:
        return any(out.glob("trials/02-*/checkpoints/step-*"))

    first = processes.start(tmp_path / "log", *asked, "--budget", "90s")
    assert first.kill(signal.SIGKILL, second_has_a_checkpoint) == -signal.SIGKILL
    state = json.loads((out / "state.json").read_text("utf-8"))
    [done] = out.glob("trials/*/trial.json")
    [begun] = out.glob("trials/02-*")
    before = [done.stat().st_mtime_ns, (done.parent / "metrics.jsonl").stat().st_mtime_ns]
    checkpoint = max(int(one.name.partition("-")[2]) for one in begun.glob("checkpoints/step-*"))
    steps = steps_of(begun)[:checkpoint]
    assert len(steps) == checkpoint

    found = cli(*asked, "--resume", "--json")
    assert found.code == 0, found.err
    assert [done.stat().st_mtime_ns, (done.parent / "metrics.jsonl").stat().st_mtime_ns] == before
    assert steps_of(begun)[:checkpoint] == steps, "what it had learned was not learned again, each step's time tells"
    told = json.loads(found.out)
    assert len(told["rungs"][0]["trials"]) == 2
    assert told["budget_seconds"] == 90, "that of the beginning"
    again = json.loads((out / "state.json").read_text("utf-8"))
    assert again["rungs"][:1] == state["rungs"]
    assert told["seconds"] >= state["spent"] + 0.1, "what was spent before counts"

    other = cli(*asked[:-1], "adapter.r=2,8", "--resume")
    assert other.code == 6
    assert "the candidate 'adapter.r=4' is gone, the candidate 'adapter.r=8' is new" in other.err
    changed = cli(*asked, "--resume", "--set", "training.epochs=3")
    assert changed.code == 6
    assert "training.epochs (16.0 before, 3.0 now)" in changed.err
    assert cli(*asked).code == 6


def steps_of(folder: Path) -> list[str]:
    """The lines of a trial's steps, with the seconds that each took."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [line for line in lines if "learning_rate" in line]


@pytest.mark.parametrize("key", ["data.validation=0.1,0.2", "seed=1,2", "evaluation.max_tokens=4,8"])
def test_other_rows_and_figures_are_not_tried(base: Path, tmp_path: Path, key: str) -> None:
    recipe = task(tmp_path, base)
    candidates = asked_for(lambda more: read_recipe(recipe, list(more)), [key])
    with pytest.raises(UsageError, match="a pilot tries no other"):
        pilot.Pilot(candidates, tmp_path / "out", 60, silent, None)


def test_without_validation_rows_there_is_nothing_to_choose_by(base: Path, tmp_path: Path) -> None:
    recipe = task(tmp_path, base, data={"train": "train.jsonl", "validation": 0, "test": "test.jsonl"})
    with pytest.raises(ContentError, match="validation"):
        pilot.Pilot([Candidate((), read_recipe(recipe))], tmp_path / "out", 60, silent, None)


@pytest.mark.slow
def test_the_learning_curve_grows_and_says_what_more_rows_would_bring(base: Path, tmp_path: Path) -> None:
    recipe, out = task(tmp_path, base), tmp_path / "curve"
    done = tiny.tunesmith("pilot", recipe, "--learning-curve", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["rows"] for one in found["points"]] == [4, 10, 21, 42]
    assert (found["measured_on"], found["held_out_rows"]) == ("test", 8)
    losses = [next(m["tuned"] for m in one["metrics"] if m["name"] == "loss") for one in found["points"]]
    assert losses[-1] < losses[0]
    assert found["forecast"]["rows"] == 84
    assert set(found["of"]) == {"recipe", "data", "base"}
    low, high = found["forecast"]["gain_ci95"]
    assert low <= found["forecast"]["gain"] <= high
    both = tiny.tunesmith("pilot", recipe, "--learning-curve", "--budget", "5m", "--out", tmp_path / "x")
    assert both.returncode == 2


@pytest.mark.parametrize("budget", ["20", "m", "20m3", "0s", "-5m"])
def test_a_budget_that_is_no_time_is_told(tmp_path: Path, budget: str) -> None:
    done = tiny.tunesmith("pilot", tmp_path / "r.yaml", "--out", tmp_path / "x", f"--budget={budget}")
    assert done.returncode == 2
    assert "--budget takes a time" in done.stderr
