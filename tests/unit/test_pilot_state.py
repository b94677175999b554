"""What a pilot that goes on must find as it was, and how a refusal tells what it did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import ConflictError, ContentError
from tunesmith.pipelines import pilot_state
from tunesmith.pipelines.pilot_state import FILE, State


def identity(**changes: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "candidates": {"adapter.r=2": "a", "adapter.r=4": "b"},
        "recipe": {"seed": 1, "training": {"epochs": 3, "batch_size": None}},
        "training rows": "t", "validation rows": "v",
    }  # fmt: skip
    return known | changes


def refusal(**changes: Any) -> str:
    with pytest.raises(ConflictError, match="cannot be resumed") as caught:
        pilot_state.require_same(State(identity(), "2026-01-01", 60), identity(**changes), Path("out"))
    return caught.value.what.partition("started: ")[2]


def test_what_is_as_it_was_goes_on() -> None:
    pilot_state.require_same(State(identity(), "2026-01-01", 60), identity(), Path("out"))


def test_a_refusal_names_what_changed_and_both_values() -> None:
    assert refusal(candidates={"adapter.r=2": "a", "adapter.r=8": "c"}) == (
        "the candidate 'adapter.r=4' is gone, the candidate 'adapter.r=8' is new"
    )
    assert refusal(candidates={"adapter.r=2": "a", "adapter.r=4": "x"}) == "the settings of 'adapter.r=4'"
    assert refusal(candidates={"adapter.r=4": "b", "adapter.r=2": "a"}) == "the order of the candidates"
    changed = {"seed": 1, "training": {"epochs": 5, "batch_size": None}}
    assert refusal(recipe=changed) == "training.epochs (3 before, 5 now)"
    assert refusal(**{"training rows": "other"}) == "training rows"


def test_many_changes_are_counted() -> None:
    changed = {f"k{number}": number for number in range(9)}
    assert refusal(recipe=identity()["recipe"] | changed).endswith("and 4 more")


def test_a_state_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    known = State(identity(), "2026-01-01", 60, 12.5, {"texts": ["a"]}, (1.5, 0.25), [42], {"01-42": 3.0}, {"x": "y"})
    known.write(tmp_path)
    found = pilot_state.read(tmp_path, resume=True)
    assert found is not None
    assert found.first_cost is not None
    assert (found.spent, [*found.first_cost], found.rungs, found.begun) == (12.5, [1.5, 0.25], [42], {"01-42": 3.0})
    with pytest.raises(ConflictError, match="there already") as caught:
        pilot_state.read(tmp_path, resume=False)
    assert "--resume" in str(caught.value.mend)


def test_what_is_no_pilot_is_left_alone(tmp_path: Path) -> None:
    assert pilot_state.read(tmp_path / "new", resume=True) is None
    assert pilot_state.read(tmp_path, resume=True) is None, "an empty folder: stopped before anything was kept"
    (tmp_path / FILE).write_text("{", "utf-8")
    with pytest.raises(ContentError, match="damaged"):
        pilot_state.read(tmp_path, resume=True)
    (tmp_path / FILE).unlink()
    (tmp_path / "mine.txt").write_text("x", "utf-8")
    with pytest.raises(ConflictError, match="no pilot"):
        pilot_state.read(tmp_path, resume=True)
