"""What a training loads before its first step: libraries that evaluation, reports and other faces need stay out."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
import tunesmith
from tunesmith.core.events import Event, StepDone
from tunesmith.core.later import later
from tunesmith.pipelines import journey
from tunesmith.pipelines.read_recipe import read_recipe

SOURCE = Path(tunesmith.__file__).parent
LATER = (
    "sklearn", "scipy.stats", "scipy.optimize", "scipy.special", "matplotlib", "pandas", "pyarrow", "nltk",
    "rouge_score", "sacrebleu", "peft", "datasets", "sqlalchemy", "fastapi", "lm_eval", "bm25s", "jsonschema",
)  # fmt: skip
TRAIN = """
import sys
from pathlib import Path

from tunesmith.core.later import spare_scipy

spare_scipy()

import tunesmith.cli.main
import tunesmith.cli.train
from tunesmith.core.events import StepDone
from tunesmith.pipelines import journey
from tunesmith.pipelines.read_recipe import read_recipe

class Stop(Exception):
    pass

def sink(event):
    if isinstance(event, StepDone):
        raise Stop

recipe = Path(sys.argv[1])
try:
    journey.train_only(read_recipe(recipe), recipe.parent / "run", resume=False, sink=sink, folder=recipe.parent)
except Stop:
    print(*sorted(sys.modules))
"""


def test_a_training_comes_to_its_first_step_without_what_it_does_not_need(tmp_path: Path) -> None:
    recipe = tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base"))
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(recipe)], capture_output=True, text=True, check=True,
        env={**os.environ, **tiny.ENVIRONMENT},
    )  # fmt: skip
    loaded = done.stdout.split()
    assert "torch" in loaded, "no step was reached"
    assert [name for name in LATER if name in loaded] == []


def test_no_step_waits_for_what_the_rows_are_about(tmp_path: Path) -> None:
    told = []

    def sink(event: Event) -> None:
        if isinstance(event, StepDone):
            told.append(json.loads((tmp_path / "run" / "data-audit.json").read_text("utf-8"))["diversity"])

    recipe = tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base"))
    spec = read_recipe(recipe, ["training.max_steps=2"])
    run = journey.train_only(spec, tmp_path / "run", resume=False, sink=sink, folder=tmp_path)
    assert told == [None, None]
    assert run.read_json("data-audit.json")["diversity"]["rows"] == 60


def test_a_library_is_loaded_when_something_of_it_is_asked_for() -> None:
    code = (
        "import sys; from tunesmith.core.later import later; waits = later('wave'); before = 'wave' in sys.modules; "
        "waits.Error; print(before, 'wave' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(ImportError, match="no_such_library"):
        assert later("no_such_library").anything


def test_what_libraries_make_is_not_searched_for_garbage() -> None:
    code = """
import gc
from tunesmith.core.later import spare_searches

searched = []
spare_searches()
gc.callbacks.append(lambda phase, info: searched.append(phase))
libraries = [[] for _ in range(400_000)]
print(len(searched), gc.get_freeze_count())
rows = [[] for _ in range(120_000)]
print(bool(searched), gc.get_freeze_count() > 400_000)
cycles = []
for _ in range(120_000):
    cycle = []
    cycle.append(cycle)
    cycles.append(cycle)
before = len(gc.get_objects())
del cycles, cycle
rows = [[] for _ in range(120_000)]
print(len(searched) >= 3, len(gc.get_objects()) < before + 60_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0 0", "True True", "True True"]


def test_only_other_peoples_libraries_wait() -> None:
    """Our own modules are imported plainly: the arrow is read off the files."""
    named = {
        node.value
        for file in SOURCE.rglob("*.py")
        if "core.later import" in file.read_text("utf-8")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("tunesmith.")
    }
    assert named == set()
