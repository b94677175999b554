"""What the page on models that judge shows is taken as it is shown."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from tunesmith import api
from tunesmith.data.config import DataSpec
from tunesmith.methods.config import METHODS

PAGE = (Path(__file__).parents[2] / "docs/how-to/reward-and-classify.md").read_text("utf-8")


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_recipes_parts_are_valid(block: str) -> None:
    shown = yaml.safe_load(block)
    assert METHODS[shown["method"]["type"]].model_validate(shown["method"]).wording()
    train, test = ({"path": shown["data"][role]} for role in ("train", "test"))
    assert DataSpec.model_validate({"train": [train], "validation": 0.1, "test": test}).validation == 0.1


def test_python_that_is_shown_calls_what_there_is() -> None:
    [block] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    calls = [node.func.attr for node in ast.walk(ast.parse(block))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]  # fmt: skip
    assert calls == ["score_answers"]
    assert set(re.findall(r"`api\.(\w+)`", PAGE)) <= set(api.__all__)


def test_recipes_and_scripts_that_are_named_are_there() -> None:
    named = set(re.findall(r"recipes/[\w-]+\.(?:yaml|py)", PAGE))
    assert named == {"recipes/wrong_slots.py", "recipes/snips-reward.yaml", "recipes/banking77-classify.yaml"}
    assert all((Path(__file__).parents[2] / name).is_file() for name in named)
