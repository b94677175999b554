"""Real workers, killed and stopped at random moments: each job has one effect, and who lost a lease writes nothing."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from records import identity, submit
from steps import WRITER, require_one_effect_each, start_worker, written
from tunesmith.governance import audit
from tunesmith.governance.keys import Identity
from tunesmith.jobs.model import Job
from tunesmith.jobs.queue import Queue
from tunesmith.store import tables
from tunesmith.store.database import Store


def stop_between_writes(worker: subprocess.Popen[bytes], home: Path) -> None:
    """SIGSTOP, at a moment when it holds no lock: SQLite's are the whole file's, and others would wait for it."""
    while True:
        worker.send_signal(signal.SIGSTOP)
        while not _all_stopped(worker.pid):
            time.sleep(0.005)
        connection = sqlite3.connect(home / "tunesmith.db", timeout=0.2, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()


def _all_stopped(pid: int) -> bool:
    """Whether the signal has reached every thread: one inside a system call finishes that first, and may get a lock."""
    states = [file.read_text().rpartition(") ")[2][0] for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


class Fleet:
    """Workers that are killed, stopped, and replaced."""

    def __init__(self, folder: Path, log: Path, size: int, seed: int, **settings: object):
        self._start: Callable[[], subprocess.Popen[bytes]] = lambda: start_worker(folder, log, **settings)
        self.random, self.folder = random.Random(seed), folder
        self.workers = [self._start() for _ in range(size)]
        self.stopped: list[tuple[float, subprocess.Popen[bytes]]] = []
        self.kills = self.stops = 0

    def hurt(self, longest_stop: float) -> None:
        """Kill one, or stop one for a while; another is started in a killed one's place."""
        place = self.random.randrange(len(self.workers))
        worker = self.workers[place]
        if self.random.random() < 0.2 and worker not in [w for _, w in self.stopped]:
            stop_between_writes(worker, self.folder)
            self.stopped.append((time.monotonic() + self.random.uniform(0, longest_stop), worker))
            self.stops += 1
        else:
            worker.kill()
            worker.wait()
            self.stopped = [(at, w) for at, w in self.stopped if w is not worker]
            self.workers[place] = self._start()
            self.kills += 1

    def wake(self, *, all_of_them: bool = False) -> None:
        for at, worker in list(self.stopped):
            if all_of_them or at < time.monotonic():
                worker.send_signal(signal.SIGCONT)
                self.stopped.remove((at, worker))

    def end(self) -> None:
        self.wake(all_of_them=True)
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            assert worker.wait(60) in (0, -signal.SIGTERM)  # the latter of one that was only starting


def _submitted(store: Store, count: int, steps: int) -> tuple[Queue, Identity, list[Job]]:
    queue = Queue(store, audit.record)
    keys = [identity(store) for _ in range(3)]
    method = {"type": "supervised", "hyperparameters": {"steps": steps}}
    return queue, keys[0], [submit(queue, keys[i % 3], method=method) for i in range(count)]


def _writers() -> list[psutil.Process]:
    """Step writers that run, of whatever worker."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(WRITER) in (process.info["cmdline"] or []):
            found.append(process)
    return found


def _survive(
    tmp_path: Path, *, jobs: int, steps: int, workers: int, seconds: float, every: float, seed: int, hurts: int = 10**9
) -> Fleet:  # fmt: skip
    store = Store.open(folder=tmp_path / "home")
    queue, who, _ = _submitted(store, jobs, steps)
    fleet = Fleet(tmp_path / "home", tmp_path / "log.txt", workers, seed, lease=2, seconds=seconds)
    until = time.monotonic() + 3000
    try:
        while queue.counts().get("succeeded", 0) < jobs:
            assert time.monotonic() < until, queue.counts()
            time.sleep(fleet.random.uniform(0, 2 * every))
            fleet.wake()
            if fleet.kills + fleet.stops < hurts and queue.counts().get("running", 0):
                fleet.hurt(longest_stop=6.0)
    finally:
        fleet.end()
    require_one_effect_each(store, who.project_id)
    store.close()
    assert not [p for p in _writers() if str(tmp_path) in " ".join(p.cmdline())]
    return fleet


def test_workers_that_are_killed_leave_each_job_one_effect(tmp_path: Path) -> None:
    fleet = _survive(tmp_path, jobs=3, steps=8, workers=2, seconds=0.05, every=0.1, seed=1, hurts=2)
    assert fleet.kills + fleet.stops == 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_500_jobs_and_8_workers_killed_at_random_moments(tmp_path: Path) -> None:
    fleet = _survive(tmp_path, jobs=500, steps=12, workers=8, seconds=0.03, every=0.7, seed=2)
    assert fleet.kills > 50
    assert fleet.stops > 5


def _everything(store: Store, folder: Path) -> dict[str, Any]:
    """All rows but those that say who is alive, and all files of jobs."""
    with store.reading() as connection:
        rows = {
            table.name: connection.execute(select(table)).all()
            for table in tables.metadata.sorted_tables
            if table.name != "workers"
        }
    return rows | {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def _worker(folder: Path, log: Path, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    worker = start_worker(folder, log, **settings)
    try:
        yield worker
    finally:
        if worker.poll() is None:
            worker.kill()
        worker.wait()


def _until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


@pytest.mark.parametrize("cut", [pytest.param("worker", marks=pytest.mark.slow), "worker and training"])
def test_a_worker_that_wakes_after_it_lost_its_lease_writes_nothing(tmp_path: Path, cut: str) -> None:
    """With the training stopped as well, it is the folder's new name that keeps its writes away."""
    home = tmp_path / "home"
    store = Store.open(folder=home)
    queue, who, (job,) = _submitted(store, 1, 25)

    def now() -> Job:
        return queue.get(who.project_id, job.id)

    with _worker(home, tmp_path / "a.txt", lease=2, seconds=0.05) as first:
        _until(lambda: now().step >= 3)
        fence = now().fence
        training = [
            p for p in _writers() if f"run-{fence}" in " ".join(p.cmdline()) and job.id in " ".join(p.cmdline())
        ]
        stop_between_writes(first, home)
        if cut == "worker and training":
            for process in training:
                process.suspend()
        with _worker(home, tmp_path / "b.txt", lease=2, seconds=0.01):
            _until(lambda: now().status == "succeeded")
        before = _everything(store, home / "jobs")
        for process in training:
            try:
                process.resume()
            except psutil.NoSuchProcess:
                continue
        first.send_signal(signal.SIGCONT)
        _until(lambda: "the lease is lost" in (tmp_path / "a.txt").read_text())
        time.sleep(0.3)
        after = _everything(store, home / "jobs")
    assert after == before
    assert now().fence > fence
    assert written(home / "jobs" / job.id / f"run-{now().fence}") == list(range(1, 26))
    require_one_effect_each(store, who.project_id)
    store.close()


@pytest.mark.slow
def test_a_killed_workers_training_stops_by_itself_with_its_state_saved(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = Store.open(folder=home)
    queue, who, (job,) = _submitted(store, 1, 1000)
    with _worker(home, tmp_path / "a.txt", lease=30, seconds=0.02) as worker:
        _until(lambda: queue.get(who.project_id, job.id).step >= 2)
        worker.kill()
        _until(lambda: not [p for p in _writers() if job.id in " ".join(p.cmdline())], 10)
    with _worker(home, tmp_path / "b.txt", lease=30, seconds=0.02) as worker:
        _until(lambda: queue.get(who.project_id, job.id).fence == 3)  # at once, though the lease is of 30 s
        begun = time.monotonic()
        queue.cancel(who.project_id, job.id, actor="k")
        _until(lambda: not [p for p in _writers() if job.id in " ".join(p.cmdline())], 10)
        assert time.monotonic() - begun < 10  # 2 s are promised; a loaded machine may take longer
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    store.close()
