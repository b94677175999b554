"""One fault at one change after the other, each followed by the same command with --resume."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faulty
from faulty import KILLED, Ended, Fault, Ground


@dataclass(frozen=True)
class Scene:
    """A command and what lies in its folder before it starts."""

    name: str
    command: str
    prepare: Callable[[Ground, Path], None]

    def words(self, ground: Ground, run: Path, *, resume: bool) -> list[object]:
        """The command line."""
        return [self.command, ground.recipe, "--out", run, *["--resume"] * resume]

    def whole(self, ground: Ground) -> Path:
        """What must come out."""
        return ground.whole if self.command == "run" else ground.trained


def _nothing(ground: Ground, run: Path) -> None:
    pass


def _killed_and_damaged(ground: Ground, run: Path) -> None:
    """A run that lost its newest checkpoint and was killed while it wrote: leftovers, and a torn line in its log."""
    shutil.copytree(ground.trained, run)
    shutil.rmtree(run / "adapter")
    newest = run / "checkpoints" / "step-6"
    shutil.copytree(newest, newest.with_name(".step-7.0123abcd.tmp"))
    (newest / "rng.safetensors").unlink()
    (run / ".run.json.0123abcd.tmp").write_text("{")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')


def _trained(ground: Ground, run: Path) -> None:
    shutil.copytree(ground.trained, run)


_PAUSED = ("paused", True)

SCENES = (
    Scene("train", "train", _nothing),
    Scene("train --resume", "train", _killed_and_damaged),
    Scene("run --resume", "run", _trained),
)


def changes(scene: Scene, ground: Ground, folder: Path, *, in_python: bool = False) -> list[str]:
    """Every change that the command makes when nothing disturbs it, in order."""
    run = folder / "counted"
    scene.prepare(ground, run)
    counting = Fault("none", faulty.COUNT, in_python=in_python)
    ended = ground.server.run(*scene.words(ground, run, resume=run.exists()), folder=run, fault=counting)
    assert ended.code == 0, ended.said
    assert faulty.differences(run, scene.whole(ground)) == []
    shutil.rmtree(run)
    return [call for call, _ in ended.calls]


def points_of(calls: list[str], fault: Fault) -> list[int]:
    """The numbers of the changes at which a fault can be made."""
    return [number for number, call in enumerate(calls, 1) if not fault.only or call in fault.only]


def _wrong_end(ended: Ended, fault: Fault, run: Path, whole: Path) -> str | None:
    """What a command under a fault must not end like; None when its end is one of those allowed."""
    if fault.kills:
        return None if ended.code == KILLED else f"not killed but exit {ended.code}"
    if "Traceback" in ended.said:
        return "a traceback"
    if ended.code == 0:
        return "; ".join(faulty.differences(run, whole)) or None
    if ended.code != 7:
        return f"exit {ended.code}"
    if "error: cannot write " not in ended.said:
        return "no clear message"
    facts = faulty.status(run)  # none when its first writing is what failed
    if facts and "continue with: " in ended.said and fault.passes and (facts["status"], "reason" in facts) != _PAUSED:
        return f"status {facts['status']}"
    return None


def attempt(scene: Scene, ground: Ground, run: Path, fault: Fault, at: int) -> tuple[str, list[str]]:
    """(how the command ended, what was wrong on the way) for one fault at one change."""
    whole = scene.whole(ground)
    scene.prepare(ground, run)
    ended = ground.server.run(*scene.words(ground, run, resume=run.exists()), folder=run, at=at, fault=fault)
    wrong = _wrong_end(ended, fault, run, whole)
    problems = [f"at {at}: {wrong}: {ended.said[-300:]}"] if wrong else []
    outcome = "harmless" if ended.code == 0 else "killed" if ended.code == KILLED else "exit 7"
    again = ground.server.run(*scene.words(ground, run, resume=True))
    if again.code != 0:
        problems.append(f"at {at}: --resume ends with {again.code}: {again.said[-300:]}")
    else:
        problems += [f"at {at}: {what}" for what in faulty.differences(run, whole) + faulty.left_over(run)]
    shutil.rmtree(run)
    return outcome, problems


def sweep(scene: Scene, ground: Ground, folder: Path, fault: Fault, points: list[int]) -> dict[str, int]:
    """Try a fault at each point; one row of the table. Fails with all that was wrong."""
    run = folder / "run"
    ends: Counter[str] = Counter()
    problems: list[str] = []
    recovered = silent = 0
    for at in points:
        outcome, wrong = attempt(scene, ground, run, fault, at)
        ends[outcome] += 1
        recovered += not wrong
        silent += any("the weights differ" in what for what in wrong)
        problems += wrong
    row = {"points": len(points), **{end: ends[end] for end in ("killed", "exit 7", "harmless")}}
    assert problems == [], "\n".join(problems)
    return row | {"recovered": recovered, "silent": silent}
