"""Distillation from the command line: a teacher that knows the task, a student that does not, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny

Cli = Callable[..., tiny.Result]
LONG: dict[str, Any] = {"training": tiny.recipe("x")["training"] | {"max_steps": 60, "learning_rate": 0.02}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`teacher`, a run that has learned the tiny task; `student`, a random base. Do not change them."""
    folder = tmp_path_factory.mktemp("distill")
    base = tiny.base_folder(folder / "base")
    tiny.write_task(folder / "teaching", base, adapter={"type": "full"})
    done = tiny.tunesmith("train", folder / "teaching" / "recipe.yaml", "--out", folder / "teacher", "--quiet")
    assert done.returncode == 0, done.stderr
    tiny.model(seed=8, vocabulary=len(tiny.tokenizer())).save_pretrained(folder / "student")
    tiny.tokenizer().save_pretrained(folder / "student")
    return folder


def _run(cli: Cli, folder: Path, out: Path, method: dict[str, Any], base: str = "student") -> tiny.Result:
    method = {"type": "distill", "teacher": str(folder / "teacher")} | method
    recipe = tiny.write_task(out.parent / "task", folder / base, method=method, adapter={"type": "full"}, **LONG)
    return cli("run", recipe, "--out", out)


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("on", ["logits", "answers"])
def test_a_student_learns_the_task_from_its_teacher_alone(on: str, folder: Path, cli: Cli, tmp_path: Path) -> None:
    done = _run(cli, folder, tmp_path / "run", {"on": on})
    assert done.code == 0, done.err
    [match] = [m for m in _read(tmp_path / "run" / "evaluation.json")["metrics"] if m["name"] == "exact_match"]
    assert match["base"] == 0
    assert match["tuned"] >= 0.5
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    known = _read(tmp_path / "run" / "run.json")
    assert len(known["teacher_fingerprint"]) == 64
    report = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert known["teacher"]["summary"].replace("'", "&#39;") in report
    if on == "logits":
        steps = [line for line in lines if "learning_rate" in line]
        assert steps[-1]["divergence"] < 0.3 * steps[0]["divergence"]
        assert steps[-1]["agreement"] > 0.8 > steps[0]["agreement"]
        checks = [line for line in lines if "validation_loss" in line]
        assert checks[-1]["validation_divergence"] < checks[0]["validation_divergence"]
    else:
        assert "divergence" not in lines[0]
        assert known["teacher"]["ended"] + known["teacher"]["cut"] + known["teacher"]["empty"] == 54
    lock = (tmp_path / "run" / "recipe.lock.yaml").read_text("utf-8")
    assert f"teacher: {folder / 'teacher'}" in lock
    again = cli("run", tmp_path / "run" / "recipe.lock.yaml", "--out", tmp_path / "run", "--resume")
    assert again.code == 0, again.err


def test_what_cannot_be_learned_is_refused_before_anything_is_written(folder: Path, cli: Cli, tmp_path: Path) -> None:
    other = {"teacher": "bundled/tunesmith-8m"}
    for method, code, words in (
        ({"on": "logits"} | other, 3, "another vocabulary"),
        ({"on": "policy"} | other, 3, "another vocabulary"),
        ({"teacher": "nowhere"}, 4, "no base 'nowhere'"),
        ({"teacher": {"url": "http://127.0.0.1:9/v1", "model": "m"}}, 3, "tells no logits"),
    ):
        done = _run(cli, folder, tmp_path / "run", method)
        assert (done.code, (tmp_path / "run").exists()) == (code, False), done.err
        assert words in done.err
    [first] = [line for line in _run(cli, folder, tmp_path / "run", other).err.splitlines() if "why:" in line]
    assert "token 0 is '<pad>' in the base and" in first


def test_a_teacher_without_anything_to_teach_is_remarked(folder: Path, cli: Cli, tmp_path: Path) -> None:
    method = {"type": "distill", "teacher": str(folder / "student")}
    recipe = tiny.write_task(tmp_path / "task", folder / "student", method=method)
    done = cli("check", recipe)
    assert done.code == 0, done.err
    assert "nothing_to_teach" in done.out
