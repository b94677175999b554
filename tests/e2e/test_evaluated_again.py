"""A repeated evaluation asks no model what it has answered before, and loads no torch where nothing has changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import tiny
from tunesmith.core.events import Event, Note, PhaseStarted
from tunesmith.evaluation.config import GateSpec
from tunesmith.pipelines import journey, judged
from tunesmith.pipelines.read_recipe import read_recipe


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run of one's own, its data beside it."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_nothing_changed_is_judged_without_torch(run: Path) -> None:
    first = json.loads((run / "evaluation.json").read_text("utf-8"))
    code = (
        "import sys; from pathlib import Path; from tunesmith.pipelines import judged; "
        f"found = judged.again(Path({str(run)!r}), None, None); "
        "print(found is not None, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
    judged_again = json.loads((run / "evaluation.json").read_text("utf-8"))
    assert [one["ok"] for one in judged_again["reasons"]] == [one["ok"] for one in first["reasons"]]
    assert {key: first[key] for key in first if key not in ("reasons", "forgetting")} == {
        key: judged_again[key] for key in first if key not in ("reasons", "forgetting")
    }


def test_another_gate_is_judged_as_the_whole_way_judges_it(run: Path) -> None:
    wanted = GateSpec(require={"exact_match": 0.99, "token_f1": -0.9}, max_forgetting=0.0001)
    quick = judged.again(run, None, wanted)
    whole = journey.evaluate_run(run, sink=lambda _: None, gate=wanted, fresh=True)
    assert quick is not None
    assert quick.changed
    assert [vars(one) for one in quick.verdict.reasons] == [vars(one) for one in whole[1].reasons]
    assert quick.evaluation["reasons"] == whole[0]["reasons"]
    assert quick.evaluation["forgetting"] == whole[0]["forgetting"]
    assert any("Holm" in reason.text for reason in quick.verdict.reasons), "which looks at the kept draws"


def test_the_command_says_that_nothing_was_asked(run: Path, cli: Callable[..., tiny.Result]) -> None:
    done = cli("evaluate", run, "--gate", "exact_match=-1", "--json")
    assert done.code == 0
    assert "nothing has changed" in done.err
    assert json.loads(done.out)["verdict"] == "pass"
    assert cli("evaluate", run, "--gate", "exact_match=0.99").code == 10
    assert "+0.990 is needed" in (run / "report.html").read_text("utf-8")
    assert cli("evaluate", run, "--gate", "no_such=0.99").code == 3


def _changed_rows(run: Path) -> None:
    known = json.loads((run / "judged.json").read_text("utf-8"))
    assert known["asked"]
    recipe = (run / "recipe.lock.yaml").read_text("utf-8")
    moved = run.parent / "moved.jsonl"
    tiny.write_rows(moved, tiny.rows(100, 7))
    test = next(line for line in recipe.splitlines() if "test.jsonl" in line)
    (run / "recipe.lock.yaml").write_text(recipe.replace(test.split("path: ")[1], str(moved)), "utf-8")


def _changed_model(run: Path) -> None:
    weights = next((run / "adapter").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes())


def _changed_settings(run: Path) -> None:
    recipe = (run / "recipe.lock.yaml").read_text("utf-8")
    (run / "recipe.lock.yaml").write_text(recipe.replace("resamples: 2000", "resamples: 500"), "utf-8")


def _lost_draws(run: Path) -> None:
    (run / "draws.safetensors").unlink()


@pytest.mark.parametrize("change", [_changed_rows, _changed_model, _changed_settings, _lost_draws])
def test_whatever_could_change_a_figure_is_measured_again(run: Path, change: Callable[[Path], None]) -> None:
    assert judged.again(run, None, None) is not None
    change(run)
    assert judged.again(run, None, None) is None


def _answers(run: Path) -> list[tuple[str, str]]:
    rows = map(json.loads, (run / "predictions.jsonl").read_text("utf-8").splitlines())
    return [(row["base"], row["tuned"]) for row in rows]


def test_answers_that_are_known_are_not_asked_again(run: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def sink(event: Event) -> None:
        if isinstance(event, Note):
            told.append(event.text)

    before = _answers(run)
    journey.evaluate_run(run, sink=sink)
    assert [text for text in told if "known" in text] == ["8 of 8 answers were known and not asked again"] * 2
    assert _answers(run) == before
    other = tiny.write_rows(tmp_path / "other.jsonl", tiny.rows(104, 8))
    told.clear()
    journey.evaluate_run(run, sink=sink, data=other)
    assert [text for text in told if "known" in text] == ["4 of 8 answers were known and not asked again"] * 2
    assert judged.again(run, other, None) is not None
    told.clear()
    journey.evaluate_run(run, sink=sink, data=other, fresh=True)
    assert [text for text in told if "known" in text] == []


def test_a_base_that_is_scored_after_the_training_scores_the_same(trained: Path, base: Path, tmp_path: Path) -> None:
    phases: list[str] = []

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted):
            phases.append(event.phase)

    spec = read_recipe(tiny.write_task(tmp_path, base), ["evaluation.base=after"])
    later, _ = journey.run(spec, tmp_path / "run", resume=False, sink=sink)
    assert phases == ["check", "load", "train", "score base", "score tuned", "report"]
    for name in ("evaluation.json", "predictions.jsonl"):
        assert (later.path / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize(("adapter", "last"), [("lora", True), ("full", False)])
def test_a_base_that_training_changes_is_scored_before(tmp_path: Path, adapter: str, last: bool) -> None:
    recipe = tiny.write_task(tmp_path, "base", adapter={"type": adapter})
    way = journey.Journey(read_recipe(recipe), tmp_path / "run", resume=False, sink=lambda _: None)
    for said in ("before", "after"):
        way.prepared = SimpleNamespace(spec=read_recipe(recipe, [f"evaluation.base={said}"]))  # type: ignore[assignment]
        assert way.base_comes_last == (last and said == "after")


def test_another_model_has_other_answers(run: Path) -> None:
    told: list[str] = []
    lines = [json.loads(line) for line in (run / "answers.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 16
    assert len({line["key"] for line in lines}) == 16, "eight prompts, two models"
    weights = next((run / "adapter").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(bytes(content))
    journey.evaluate_run(run, sink=lambda e: told.append(e.text) if isinstance(e, Note) else None)
    assert [text for text in told if "known" in text] == ["8 of 8 answers were known and not asked again"], "the base's"
