"""Killed after any optimizer step of fifty and continued, a run ends in the same bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import faulty
import pytest
from faulty import AFTER, KILLED, Fault, Ground

STEPS = 50
KILL = Fault("killed after", AFTER)


@dataclass(frozen=True)
class Fifty:
    """A run of fifty steps. `changes[s]` is the number of the change that writes the line of step s."""

    ground: Ground
    words: list[object]
    whole: Path
    changes: dict[int, int]


@pytest.fixture(scope="module")
def fifty(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Fifty:
    """The undisturbed run."""
    if not faulty.compiler():
        pytest.skip("no C compiler (cc) on Linux; test_resume.py kills at steps that it polls for")
    whole = tmp_path_factory.mktemp("fifty").resolve() / "whole"
    words = ["train", ground.recipe, "--set", f"training.max_steps={STEPS}", "--set", "training.checkpoint_every=4"]
    ended = ground.server.run(*words, "--out", whole, folder=whole)
    assert ended.code == 0, ended.said
    numbers = [n for n, change in enumerate(ended.calls, 1) if change == ("write", "/metrics.jsonl")]
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text("utf-8").splitlines()]
    changes = {line["step"]: number for line, number in zip(lines, numbers, strict=True) if "loss" in line}
    assert list(changes) == list(range(1, STEPS + 1))
    return Fifty(ground, words, whole, changes)


def _killed_after(step: int, fifty: Fifty, run: Path) -> list[str]:
    """What is wrong with the run that was killed after `step` and continued."""
    server = fifty.ground.server
    first = server.run(*fifty.words, "--out", run, folder=run, at=fifty.changes[step], fault=KILL)
    assert first.code == KILLED, first.said
    assert faulty.curve(run)[-1][0] == step
    second = server.run(*fifty.words, "--out", run, "--resume")
    assert second.code == 0, second.said
    wrong = [f"step {step}: {what}" for what in faulty.differences(run, fifty.whole) + faulty.left_over(run)]
    shutil.rmtree(run)
    return wrong


@pytest.mark.parametrize("step", [1, 18, 35, 50])
def test_killed_after_a_step(step: int, fifty: Fifty, tmp_path: Path) -> None:
    assert _killed_after(step, fifty, tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_after_every_step(fifty: Fifty, tmp_path: Path) -> None:
    wrong = [_killed_after(step, fifty, tmp_path / "run") for step in fifty.changes]
    equal = sum(not problems for problems in wrong)
    faulty.record("every step", {"killed after each step": {"points": len(wrong), "equal": equal}})
    assert [problem for problems in wrong for problem in problems] == []
    assert equal == STEPS
