"""The database is away while jobs run: the trainings go on, nothing is lost, nothing is told twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from records import Server, identity, submit
from steps import require_one_effect_each, start_worker
from tunesmith.governance import audit
from tunesmith.jobs.queue import Queue
from tunesmith.store.database import GoneError, Store


def _away(tmp_path: Path, server: Server, *, seconds: float, lease: float, steps: int) -> None:
    home = tmp_path / "home"
    store = Store.open(server.url, home)
    queue, who = Queue(store, audit.record), identity(store)
    method = {"type": "supervised", "hyperparameters": {"steps": steps}}
    jobs = [submit(queue, who, method=method) for _ in range(6)]
    settings = {"lease": lease, "seconds": 0.1, "url": server.url, "slots": 2}
    workers = [start_worker(home, tmp_path / "log.txt", **settings) for _ in range(2)]
    try:
        end = time.monotonic() + 300
        while max(queue.get(who.project_id, job.id).step for job in jobs) < 5:
            assert time.monotonic() < end
            time.sleep(0.1)
        server.stop()
        with pytest.raises(GoneError):
            queue.counts()
        time.sleep(seconds)
        assert all(worker.poll() is None for worker in workers)
        server.start()
        while queue.counts().get("succeeded", 0) < len(jobs):
            assert time.monotonic() < end + seconds
            time.sleep(0.2)
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait(60)
    require_one_effect_each(store, who.project_id)
    fences = {queue.get(who.project_id, job.id).fence for job in jobs}
    assert fences == {2} or lease < seconds, "with a lease that outlasts it, no job changes hands"
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("lease", [60.0, 5.0])
def test_the_database_is_gone_for_30_seconds(tmp_path: Path, lease: float) -> None:
    with Server() as server:
        _away(tmp_path, server, seconds=30.0, lease=lease, steps=60)


def test_the_database_is_gone_for_a_moment(tmp_path: Path) -> None:
    with Server() as server:
        _away(tmp_path, server, seconds=1.0, lease=30.0, steps=12)
