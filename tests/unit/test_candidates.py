"""What a pilot tries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import tiny
from tunesmith.core.errors import ContentError, UsageError
from tunesmith.pipelines.candidates import Read, asked_for, usual
from tunesmith.pipelines.read_recipe import read_recipe
from tunesmith.pipelines.recipe import RunSpec


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A recipe of the bundled base under settings."""
    path = tmp_path / "recipe.yaml"
    adapter = {"type": "lora", "r": 32, "alpha": 64}
    method = {"type": "sft", "rehearsal": {"rows": 8}}
    content = tiny.recipe("bundled/tunesmith-8m", adapter=adapter, method=method)
    path.write_text(json.dumps(content), "utf-8")

    def under(settings: Sequence[str]) -> RunSpec:
        return read_recipe(path, settings, environment={})

    return under


def test_every_combination_of_what_is_asked_for(read: Read) -> None:
    made = asked_for(read, ["adapter.r=8, 32", "training.learning_rate=0.001,0.01"])
    assert [(one.spec.adapter.r, one.spec.training.learning_rate) for one in made] == [  # type: ignore[union-attr]
        (8, 0.001), (8, 0.01), (32, 0.001), (32, 0.01),
    ]  # fmt: skip
    assert made[1].name == "adapter.r=8, training.learning_rate=0.01"


def test_commas_inside_brackets_are_part_of_a_value(read: Read) -> None:
    made = asked_for(read, ["adapter={type: lora, r: 4},{type: ia3}"])
    assert [one.spec.adapter.type for one in made] == ["lora", "ia3"]


@pytest.mark.parametrize("text", ["adapter.r", "=8", "adapter.r=", "adapter.r=[8"])
def test_what_is_no_list_of_values_is_told(read: Read, text: str) -> None:
    with pytest.raises(UsageError):
        asked_for(read, [text])


def test_a_value_that_no_recipe_takes_is_told(read: Read) -> None:
    with pytest.raises(ContentError, match=r"adapter\.r"):
        asked_for(read, ["adapter.r=0"])


def test_the_usual_ones_are_four_adapters_at_three_rates_around_the_recipes(read: Read) -> None:
    made = usual(read)
    assert [one.spec.adapter.type for one in made] == ["lora"] * 9 + ["full"] * 3
    assert [one.spec.adapter.r for one in made[:9]] == [32] * 3 + [8] * 3 + [32] * 3  # type: ignore[union-attr]
    assert [one.spec.adapter.dora for one in made[:9]] == [False] * 6 + [True] * 3  # type: ignore[union-attr]
    rates = [one.spec.training.learning_rate for one in made]
    assert rates[:3] == [0.0017, 0.005, 0.015]
    assert rates[9:] == [0.00017, 0.0005, 0.0015]  # a tenth, as "auto" has it for training every weight
    assert made[0].spec.method.rehearsal is not None  # type: ignore[union-attr]
    assert made[9].spec.method.rehearsal is None  # type: ignore[union-attr]
