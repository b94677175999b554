"""A distillation that was killed and continued ends in the same weights as one that was not, byte for byte, and asks
its teacher for nothing twice.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import processes
import tiny
from endpoint import said, serving

METHODS: dict[str, dict[str, Any]] = {
    "logits": {"on": "logits", "divergence": {"type": "forward_kl", "temperature": 2.0}, "label_weight": 0.3},
    "answers": {"on": "answers", "answers": {"max_tokens": 12, "temperature": 1.0}},
    "policy": {"on": "policy", "policy": {"share": 0.6, "max_tokens": 6}},
}
KEPT = {"logits": "teacher/train-00000.safetensors", "answers": "teacher-answers.jsonl", "policy": "run.json"}


def _steps(run: Path, count: int) -> Callable[[], bool]:
    def reached() -> bool:
        try:
            return (run / "metrics.jsonl").read_bytes().count(b'"learning_rate"') >= count
        except FileNotFoundError:
            return False

    return reached


def _taught(folder: Path) -> Path:
    """A teacher that has learned to end its answers: an adapter on the base."""
    recipe = tiny.write_task(folder / "teaching", tiny.base_folder(folder / "base"))
    done = processes.start(folder / "log-teacher", "train", recipe, "--out", folder / "teacher")
    assert done.wait() == 0, done.said()
    return folder / "teacher"


def _task(folder: Path, teacher: Path, method: dict[str, Any], **sections: Any) -> Path:
    """The recipe of a student that is another random model."""
    student = folder / "student"
    tiny.model(seed=8, vocabulary=len(tiny.tokenizer())).save_pretrained(student)
    tiny.tokenizer().save_pretrained(student)
    method = {"type": "distill", "teacher": str(teacher)} | method
    return tiny.write_task(folder / "task", student, method=method, **sections)


def _same(run: Path, whole: Path, name: str) -> None:
    for file in ("adapter/adapter_model.safetensors", "predictions.jsonl", "evaluation.json", KEPT[name]):
        if file != "run.json":
            assert (run / file).read_bytes() == (whole / file).read_bytes(), file
    curves = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()
        ]
        for folder in (run, whole)
    ]
    assert curves[0] == curves[1]


def test_killed_and_resumed_on_policy_equals_uninterrupted(tmp_path: Path) -> None:
    short = tiny.recipe("x")["training"] | {"max_steps": 12, "evaluate_every": 4}
    recipe = _task(tmp_path, tiny.base_folder(tmp_path / "base"), METHODS["policy"], training=short)
    run, whole = tmp_path / "run", tmp_path / "whole"
    done, first = (processes.start(tmp_path / f"log-{out.name}", "run", recipe, "--out", out) for out in (whole, run))
    assert first.kill(signal.SIGKILL, _steps(run, 7)) == -signal.SIGKILL
    again = processes.start(tmp_path / "again", "run", recipe, "--out", run, "--resume")
    assert (done.wait(), again.wait()) == (0, 0), again.said()
    _same(run, whole, "policy")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_killed_and_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    recipe = _task(tmp_path, _taught(tmp_path), METHODS[name])
    whole = tmp_path / "whole"
    done = processes.start(tmp_path / "log", "run", recipe, "--out", whole)
    assert done.wait() == 0, done.said()
    moments = {
        "while the teacher is asked": lambda run: (run / KEPT[name]).exists,
        "later": lambda run: _steps(run, 17),
    }
    for number, (moment, when) in enumerate(moments.items()):
        run = tmp_path / f"run-{number}"
        first = processes.start(tmp_path / f"first-{number}", "run", recipe, "--out", run)
        assert first.kill(signal.SIGKILL, when(run)) == -signal.SIGKILL, moment
        assert not (run / "adapter").exists()
        again = processes.start(tmp_path / f"again-{number}", "run", recipe, "--out", run, "--resume")
        assert again.wait() == 0, again.said()
        _same(run, whole, name)
    if name != "policy":
        assert "the teacher" in first.said()
        assert ", once" not in again.said(), "the teacher was asked twice"
    tiny.model(seed=9, vocabulary=len(tiny.tokenizer())).save_pretrained(tmp_path / "base")
    refused = processes.start(tmp_path / "refused", "run", recipe, "--out", run, "--resume")
    assert refused.wait() == 6
    assert "teacher" in refused.said().partition("changed since it was started:")[2].splitlines()[0]


def test_a_run_taught_by_an_endpoint_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    """The endpoint is ill after 20 answers and well again later; the 20 are not asked for again."""
    base = tiny.base_folder(tmp_path / "base")

    def act(asked: dict[str, Any]) -> Any:
        content = asked["messages"][-1]["content"]
        if len(server.asked) > 20 and not well:
            return 401, {}, b'{"error": {"message": "the key has run out"}}'
        return said(next(thing for thing in tiny.THINGS if thing in content))

    well: list[int] = []
    with serving(act) as server:
        method = {"type": "distill", "on": "answers", "teacher": {"url": server.url, "model": "big", "concurrency": 1}}
        recipe = tiny.write_task(tmp_path / "task", base, method=method)
        first = processes.start(tmp_path / "first", "run", recipe, "--out", tmp_path / "run")
        assert first.wait() == 4, first.said()
        assert "the key has run out" in first.said()
        assert not list((tmp_path / "run").glob("checkpoints/*"))
        asked = len(server.asked)
        well.append(1)
        again = processes.start(tmp_path / "again", "run", recipe, "--out", tmp_path / "run", "--resume")
        assert again.wait() == 0, again.said()
        assert len(server.asked) == 54 + 1, f"{asked} were asked before"
    # An evaluation asks nobody, nor does a run whose answers are there.
    evaluated = processes.start(tmp_path / "evaluated", "evaluate", tmp_path / "run", "--fresh")
    assert evaluated.wait() == 0, evaluated.said()
    facts = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["teacher"]
    assert (facts["rows"], facts["ended"]) == (54, 54)
    assert "54 of 54 answers of the teacher ended" in (tmp_path / "run" / "report.html").read_text("utf-8")
