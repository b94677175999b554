"""A full disk pauses a run: told with the command that goes on, nothing lost, the same bytes in the end.

The failing of each single write for want of room, without a mount, is in test_nth_change.py.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faulty
import pytest
from disks import SmallDisk, small_disk
from faulty import STOPPED, Ended, Ground

from tunesmith.engine.checkpoint import Checkpoints

MORE = ["--set", "training.max_steps=60", "--set", "training.checkpoint_every=5"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Mounts a disk of so many KiB."""
    made: list[SmallDisk] = []

    def mount(kib: int) -> SmallDisk:
        made.append(small_disk(tmp_path.resolve() / "disk", kib))
        return made[0]

    yield mount
    for one in made:
        one.close()


def _told(ended: Ended, why: str = "the disk is full") -> list[str]:
    """The words of the command that goes on, out of a clear message."""
    assert ended.code == 7, ended.said
    assert "Traceback" not in ended.said
    assert "error: cannot write " in ended.said
    assert f"why: {why}" in ended.said
    command = shlex.split(ended.said.partition("continue with: ")[2].splitlines()[0])
    assert command[0] == "tunesmith"
    return command[1:]


def _paused(run: Path) -> None:
    facts = faulty.status(run)
    assert (facts["status"], facts["reason"]) == ("paused", "the disk is full")


def _good(run: Path) -> list[int]:
    """The steps with a checkpoint; each verifies, and nothing unfinished is left."""
    store = Checkpoints(run / "checkpoints")
    assert [store.load(step).step for step in store.steps()] == store.steps()
    assert faulty.left_over(run) == []
    return store.steps()


@pytest.mark.parametrize(("kib", "some"), [(700, False), (1230, True)], ids=["first checkpoint", "later checkpoint"])
def test_a_disk_too_small(kib: int, some: bool, ground: Ground, disk: Callable[[int], SmallDisk]) -> None:
    small = disk(kib)
    run = small.place / "run"
    ended = ground.server.run("train", ground.recipe, "--out", run, namespace=small.pid)
    command = _told(ended)
    assert "MB are needed" in ended.said
    seen = small.seen(run)
    _paused(seen)
    assert bool(_good(seen)) == some
    again = ground.server.run(*command, namespace=small.pid)
    _told(again)
    small.remount("size=4m")
    resumed = ground.server.run(*command, namespace=small.pid)
    assert resumed.code == 0, resumed.said
    assert ("resumed after step" in resumed.said) == some
    assert faulty.differences(seen, ground.trained) == []


def _steps(run: Path, count: int) -> Callable[[], bool]:
    def reached() -> bool:
        try:
            return (run / "metrics.jsonl").read_bytes().count(b'"learning_rate"') >= count
        except FileNotFoundError:
            return False

    return reached


def _until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.001)


def _line_of_step(ground: Ground, step: int, run: Path) -> int:
    """The number of the change that writes a step's line, from a run that counts them."""
    ended = ground.server.run("train", ground.recipe, *MORE, "--out", run, folder=run)
    assert ended.code == 0, ended.said
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    numbers = [number for number, change in enumerate(ended.calls, 1) if change == ("write", "/metrics.jsonl")]
    [found] = [n for n, line in zip(numbers, lines, strict=True) if f'"step": {step}, "loss"' in line]
    return found


def _stopped(run: Path) -> int:
    """The process of a run, once it stands still."""
    _until(lambda: "pid" in faulty.status(run))
    pid = faulty.status(run)["pid"]
    _until(lambda: "(stopped)" in Path(f"/proc/{pid}/status").read_text("utf-8"))
    return int(pid)


def test_others_fill_the_disk(shim: Ground, disk: Callable[[int], SmallDisk], tmp_path: Path) -> None:
    """No byte is free, and nothing half-written is there to make room: still the status is told."""
    small = disk(8000)
    run, whole = small.place / "run", tmp_path.resolve() / "whole"
    seen, at = small.seen(run), _line_of_step(shim, 12, whole)
    words = ["train", shim.recipe, *MORE, "--out", run]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shim.server.run, *words, folder=run, at=at, fault=STOPPED, namespace=small.pid)
        pid = _stopped(seen)
        filler = small.fill()
        os.kill(pid, signal.SIGCONT)
        command = _told(running.result())
    _paused(seen)
    assert _good(seen)
    filler.unlink()
    resumed = shim.server.run(*command, namespace=small.pid)
    assert resumed.code == 0, resumed.said
    assert faulty.differences(seen, whole) == []


def test_a_disk_that_turns_read_only(ground: Ground, disk: Callable[[int], SmallDisk], tmp_path: Path) -> None:
    """Nothing can be told in run.json then; the message tells it."""
    whole = tmp_path.resolve() / "whole"
    assert ground.server.run("train", ground.recipe, *MORE, "--out", whole).code == 0
    small = disk(8000)
    run = small.place / "run"
    seen = small.seen(run)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            ground.server.run, "train", ground.recipe, *MORE, "--out", run, namespace=small.pid
        )  # fmt: skip
        _until(_steps(seen, 12))
        small.remount("ro")
        command = _told(running.result(), "the file system is read-only")
    refused = ground.server.run(*command, namespace=small.pid)
    assert refused.code == 7, refused.said
    small.remount("rw")
    resumed = ground.server.run(*command, namespace=small.pid)
    assert resumed.code == 0, resumed.said
    assert faulty.differences(seen, whole) == []
    assert faulty.left_over(seen) == []
