"""Whatever change of a run's folder fails or is the last before a kill: the same command with --resume goes on.

A change is a write, an fsync, a rename, a truncation, a removal, a new folder or an opening for writing, by Python or
by Rust. It fails or the process is killed there; the command ends by the kill, or says what is wrong (exit 7), or
finishes because nothing depends on that change. Then the command runs again with --resume and nothing else, and must
end in the same bytes as a run that was never disturbed.
"""

from __future__ import annotations

import platform
from pathlib import Path

import faulty
import pytest
from faulty import EVERY_FAULT, IN_PYTHON, Fault, Ground
from sweeps import SCENES, Scene, changes, points_of, sweep

_LIKE_OTHERS = ("fails once (ENOSPC)", "fails from there on (EIO)", "killed after")
"""Tried in full in the first scene only: the disk looks as another fault leaves it."""

CASES = [(SCENES[0], fault) for fault in EVERY_FAULT] + [
    (scene, fault) for scene in SCENES[1:] for fault in EVERY_FAULT if fault.name not in _LIKE_OTHERS
]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("scene", "fault"), CASES, ids=lambda part: part.name)
def test_every_change(scene: Scene, fault: Fault, shim: Ground, tmp_path: Path) -> None:
    points = points_of(changes(scene, shim, tmp_path), fault)
    faulty.record("nth change", {f"{scene.name}: {fault.name}": sweep(scene, shim, tmp_path, fault, points)})


@pytest.mark.parametrize(
    ("scene", "faults", "each"),
    [(SCENES[0], EVERY_FAULT, 2), (SCENES[1], EVERY_FAULT[::2], 1), (SCENES[2], EVERY_FAULT[1::2], 1)],
    ids=[scene.name for scene in SCENES],
)
def test_some_changes(scene: Scene, faults: tuple[Fault, ...], each: int, shim: Ground, tmp_path: Path) -> None:
    """Each fault at a few changes of its own, so that together they reach every kind of change."""
    calls = changes(scene, shim, tmp_path)
    for number, fault in enumerate(faults):
        points = points_of(calls, fault)
        stride = len(points) // each
        sweep(scene, shim, tmp_path, fault, points[number * stride // len(faults) :: stride])


def test_the_shim_sees_what_python_and_rust_write(shim: Ground, tmp_path: Path) -> None:
    run = tmp_path / "run"
    calls = shim.server.run("train", shim.recipe, "--out", run, folder=run).calls
    assert {call for call, _ in calls} == {*"write fsync rename mkdir unlink rmdir open truncate".split()}  # noqa: SIM905
    steps = [path for call, path in calls if call == "write" and path == "/metrics.jsonl"]
    assert len(steps) == 8, "six steps and two validations, by Python"
    tensors = [path for call, path in calls if call == "write" and "/checkpoints/" in path and "/.tmp" in path]
    assert len(tensors) == 4 * 3, "four checkpoints of three files, by safetensors"
    if platform.machine() == "x86_64":
        named = [path for call, path in calls if call == "rename" and path.endswith(".safetensors")]
        assert len(named) == 4 * 3 + 1


@pytest.mark.parametrize("fault", IN_PYTHON, ids=lambda fault: fault.name)
def test_some_changes_seen_from_python(fault: Fault, ground: Ground, tmp_path: Path) -> None:
    """Needs no compiler, so it runs everywhere."""
    points = points_of(changes(SCENES[0], ground, tmp_path, in_python=True), fault)
    sweep(SCENES[0], ground, tmp_path, fault, points[IN_PYTHON.index(fault) * 13 :: 43])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", IN_PYTHON, ids=lambda fault: fault.name)
def test_every_change_seen_from_python(fault: Fault, ground: Ground, tmp_path: Path) -> None:
    points = points_of(changes(SCENES[0], ground, tmp_path, in_python=True), fault)
    faulty.record("nth change", {f"train: {fault.name}": sweep(SCENES[0], ground, tmp_path, fault, points)})
