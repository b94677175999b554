"""The folder of a run is deleted under it, or cannot be written any more: told, and nothing half comes back."""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faulty
import pytest
from faulty import DELETED, NOT_ALLOWED, READ_ONLY, Fault, Ground
from sweeps import SCENES, changes, points_of, sweep
from test_disk_full import MORE, _steps, _until


def _gone_at(ground: Ground, at: int, run: Path) -> tuple[str, list[str]]:
    """(how the command ended, what was wrong) when the folder goes before change `at` and comes back afterwards."""
    words = ["train", ground.recipe, "--out", run]
    ended = ground.server.run(*words, folder=run, at=at, fault=DELETED)
    said = {0: "", 4: f"error: {run / 'run.json'} is not there", 7: "why: the folder is gone"}  # 4: all was written
    wrong = ["a traceback"] * ("Traceback" in ended.said)
    if said.get(ended.code, "?") not in ended.said:
        wrong.append(f"exit {ended.code}: {ended.said}")
    wrong += [f"came back with {[p.name for p in run.rglob('*')]}"] * run.exists()
    shutil.rmtree(run, ignore_errors=True)
    run.with_name(f"{run.name}.gone").rename(run)
    again = ground.server.run(*words, "--resume")
    wrong += faulty.differences(run, ground.trained) + faulty.left_over(run) if again.code == 0 else [again.said]
    shutil.rmtree(run)
    return f"exit {ended.code}", [f"at {at}: {what}" for what in wrong]


def _sweep_gone(ground: Ground, points: list[int], folder: Path) -> dict[str, int]:
    tried = [_gone_at(ground, at, folder / "run") for at in points]
    assert [problem for _, wrong in tried for problem in wrong] == []
    recovered = sum(not wrong for _, wrong in tried)
    silent = sum(any("the weights differ" in what for what in wrong) for _, wrong in tried)
    return {"points": len(tried), **Counter(end for end, _ in tried), "recovered": recovered, "silent": silent}


def test_the_folder_goes_before_some_changes(shim: Ground, tmp_path: Path) -> None:
    points = points_of(changes(SCENES[0], shim, tmp_path.resolve()), DELETED)
    _sweep_gone(shim, points[3 :: len(points) // 4], tmp_path.resolve())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_folder_goes_before_every_change(shim: Ground, tmp_path: Path) -> None:
    points = points_of(changes(SCENES[0], shim, tmp_path.resolve()), DELETED)[1:]  # the first one makes it
    faulty.record("folder lost", {f"train: {DELETED.name}": _sweep_gone(shim, points, tmp_path.resolve())})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", [READ_ONLY, NOT_ALLOWED], ids=lambda fault: fault.name)
def test_the_folder_cannot_be_written_from_every_change_on(fault: Fault, shim: Ground, tmp_path: Path) -> None:
    points = points_of(changes(SCENES[0], shim, tmp_path), fault)
    faulty.record("folder lost", {f"train: {fault.name}": sweep(SCENES[0], shim, tmp_path, fault, points)})


@pytest.mark.parametrize("fault", [READ_ONLY, NOT_ALLOWED], ids=lambda fault: fault.name)
def test_the_folder_cannot_be_written_from_some_changes_on(fault: Fault, shim: Ground, tmp_path: Path) -> None:
    points = points_of(changes(SCENES[0], shim, tmp_path), fault)
    sweep(SCENES[0], shim, tmp_path, fault, points[20 :: len(points) // 2])


def test_a_folder_deleted_while_it_trains(ground: Ground, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ground.server.run, "train", ground.recipe, *MORE, "--out", run)
        _until(_steps(run, 12))
        while run.exists():
            shutil.rmtree(run, ignore_errors=True)
        ended = running.result()
    assert ended.code == 7, ended.said
    assert "Traceback" not in ended.said
    assert "why: the folder is gone" in ended.said
    assert "mend: restore the folder, or start again with another --out" in ended.said
    assert not run.exists()
    again = ground.server.run("train", ground.recipe, "--out", run, "--resume")
    assert again.code == 0, again.said
    assert faulty.differences(run, ground.trained) == []
