"""The advice before there is data: what comes first, and why."""

from __future__ import annotations

import json
from itertools import product
from typing import Any, get_args

import pytest

import tiny
from tunesmith.evaluation.advice import CHOICES, EXAMPLES, NAMES, NEXT, Situation, Way, advise


def ways(**given: Any) -> list[str]:
    usual: dict[str, Any] = {
        "task": "extract", "trouble": "format", "examples": 500, "changes": "never", "volume": 100, "may_leave": True
    }  # fmt: skip
    return [step.way for step in advise(Situation(**usual | given)).steps]


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({}, "fine_tune"),
        ({"trouble": "untried"}, "prompt"),
        ({"trouble": "facts", "changes": "weekly"}, "retrieval"),
        ({"trouble": "facts", "changes": "never"}, "retrieval"),
        ({"task": "answer", "trouble": "style", "changes": "daily"}, "retrieval"),
        ({"examples": 20}, "few_shot"),
        ({"examples": 0}, "prompt"),
        ({"trouble": "cost", "examples": 20}, "few_shot"),
        ({"trouble": "cost"}, "fine_tune"),
    ],
)
def test_what_comes_first(given: dict[str, Any], first: str) -> None:
    assert ways(**given)[0] == first


def test_what_follows() -> None:
    assert ways(trouble="facts", changes="weekly")[:2] == ["retrieval", "fine_tune_and_retrieval"]
    assert "fine_tune_and_retrieval" not in ways(trouble="facts", examples=20)
    assert ways(trouble="cost", examples=20)[1:3] == ["fine_tune", "distil"]
    assert "distil" not in ways(trouble="cost", examples=20, may_leave=False)
    assert "preferences" in ways(task="converse", trouble="style", examples=800)
    assert "fine_tune" not in ways(examples=3)
    assert ways(trouble="untried", volume=50_000)[-1] == "fine_tune"


def test_every_situation_has_a_first_way_and_none_stands_twice() -> None:
    numbers = ((0, 9, 10, 150, 20_000), (0, 10_000), (True, False))
    for task, trouble, changes, examples, volume, leave in product(*CHOICES.values(), *numbers):
        found = advise(Situation(task, trouble, examples, changes, volume, leave))
        told = [step.way for step in found.steps]
        assert told
        assert len(told) == len(set(told))
        assert found.examples == EXAMPLES[task]
        assert "prompt" in told, "what all is measured against"


def test_every_way_has_a_name_and_a_next_step() -> None:
    assert set(NAMES) == set(NEXT) == set(get_args(Way))


def test_the_command_tells_and_without_a_terminal_asks_nothing() -> None:
    options = [
        "--task", "extract", "--trouble", "format", "--examples", "500", "--changes", "never", "--volume", "100",
        "--may-not-leave",
    ]  # fmt: skip
    done = tiny.tunesmith("advise", *options, "--json")
    told = json.loads(done.stdout)
    assert told["steps"][0]["way"] == "fine_tune"
    assert any("may not leave" in note for note in told["notes"])
    asked = tiny.tunesmith("advise", "--task", "extract")
    assert asked.returncode == 2
    assert "--trouble, --examples, --changes, --volume, --may-leave" in asked.stderr
    wrong = tiny.tunesmith("advise", *options[2:], "--task", "fly")
    assert wrong.returncode == 2
    assert "one of: classify, extract" in wrong.stderr
