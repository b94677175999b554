"""The commands of the service's machine, and real trainings under a worker."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

import tiny
from records import identity, submit
from tunesmith.governance import audit
from tunesmith.governance.keys import Identity
from tunesmith.jobs.model import Job
from tunesmith.jobs.queue import Queue
from tunesmith.store.database import Store
from tunesmith.store.tables import audit as entries
from tunesmith.store.tables import files, models


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    store = Store.open(folder=home)
    yield store
    store.close()


def _run(home: Path, *arguments: object, code: int = 0) -> Any:
    done = tiny.tunesmith(*arguments, "--json", TUNESMITH_HOME=str(home))
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def test_keys_and_jobs_and_audit_by_hand(home: Path, store: Store) -> None:
    made = _run(home, "keys", "create", "ci", "--scope", "read", "--scope", "train", "--expires", "2d")
    assert made["key"].startswith(f"ts-{made['id']}")
    assert made["scopes"] == ["read", "train"]
    assert "no period" in _run(home, "keys", "create", "x", "--expires", "soon", code=2)
    who = identity(store)
    job = submit(Queue(store, audit.record), who)
    listed = _run(home, "jobs", "list")
    assert [j["id"] for j in listed["jobs"]] == [job.id]
    assert listed["counts"] == {"validating_files": 1}
    assert "did you mean 'running'" in _run(home, "jobs", "list", "--status", "runing", code=2)
    assert _run(home, "jobs", "priority", job.id, "3")["priority"] == 3
    assert "possible while it is" in _run(home, "jobs", "pause", job.id, code=6)
    assert _run(home, "jobs", "cancel", job.id)["status"] == "cancelled"
    assert _run(home, "jobs", "show", job.id)["events"][-1]["message"] == "The job has been cancelled"
    assert "there is no job" in _run(home, "jobs", "show", "ftjob-none", code=4)
    assert _run(home, "keys", "revoke", made["id"])["revoked_at"]
    shown = _run(home, "audit", "list", "--limit", 100)["entries"]
    assert [e["action"] for e in shown][-4:] == ["job.created", "job.priority", "job.cancel", "key.revoked"]
    assert _run(home, "audit", "verify")["ok"] is True
    with store.writing() as connection:
        connection.execute(update(entries).where(entries.c.number == 2).values(actor="nobody"))
    done = tiny.tunesmith("audit", "verify", TUNESMITH_HOME=str(home))
    assert done.returncode == 3
    assert "entry 2" in done.stderr


def _upload(store: Store, who: Identity, rows: list[dict[str, Any]]) -> str:
    blob = store.blobs.put([json.dumps({"messages": row["messages"]}).encode() + b"\n" for row in rows])
    with store.writing() as connection:
        connection.execute(
            insert(files).values(
                id=f"file-{blob.name}", project_id=who.project_id, filename="x", purpose="fine-tune", bytes=blob.size,
                created_at=1.0, status="processed", blob=blob.name, sha256=blob.sha256,
            )
        )  # fmt: skip
    return f"file-{blob.name}"


def _worker(home: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tunesmith", "worker", *options], stdout=out, stderr=out, start_new_session=True,
            env={**os.environ, **tiny.ENVIRONMENT, "TUNESMITH_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip


def _real(store: Store, base: Path, count: int) -> tuple[Queue, Identity, list[Job]]:
    """Jobs that are all the same: whatever befalls them, they must end in the same bytes."""
    queue, who = Queue(store, audit.record), identity(store)
    training, validation = _upload(store, who, tiny.rows(0, 16)), _upload(store, who, tiny.rows(100, 4))
    method = {"type": "supervised", "hyperparameters": {"n_epochs": 4, "batch_size": 2}}
    asked = {"base": str(base), "training_file": training, "validation_file": validation, "method": method}
    return queue, who, [submit(queue, who, **asked) for _ in range(count)]


def _require_same_bytes(store: Store, queue: Queue, who: Identity, jobs: list[Job]) -> None:
    found = [queue.get(who.project_id, job.id) for job in jobs]
    assert {job.status for job in found} == {"succeeded"}, [job.error for job in found]
    with store.reading() as connection:
        rows = connection.execute(select(models).where(models.c.kind == "final")).all()
    assert sorted(row.job_id for row in rows) == sorted(job.id for job in jobs)
    assert len({tiny.sha256(store.folder / row.weights / "adapter_model.safetensors") for row in rows}) == 1
    assert len({(store.folder / row.run / "evaluation.json").read_bytes() for row in rows}) == 1
    for job in found:
        events = queue.events(who.project_id, job.id, limit=1000).data[::-1]
        steps = [event.data["step"] for event in events if event.data]
        assert steps == list(range(1, 33))
        assert events[-1].message == "The job has successfully completed"
        assert job.verdict is not None
        assert len(job.result_files) == 1
    assert audit.verify(store).bad is None


@pytest.mark.slow
def test_a_real_job_its_checkpoints_and_its_report(home: Path, store: Store, shared: Path, tmp_path: Path) -> None:
    queue, who, jobs = _real(store, shared / "models" / "stories260K", 1)
    worker = _worker(home, tmp_path / "log.txt", "--until-empty")
    assert worker.wait(300) == 0, (tmp_path / "log.txt").read_text()
    _require_same_bytes(store, queue, who, jobs)
    taken = queue.checkpoints(who.project_id, jobs[0].id).data
    assert len(taken) >= 1
    with store.reading() as connection:
        rows = {row.name: row for row in connection.execute(select(models))}
    final = rows[queue.get(who.project_id, jobs[0].id).fine_tuned_model or ""]
    assert taken[0].model == final.name
    assert set(taken[0].metrics) >= {"step", "train_loss", "valid_loss", "full_valid_loss"}
    for row in rows.values():
        config = json.loads((home / row.weights / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == row.base
        assert (home / row.weights / "adapter_model.safetensors").is_file()
    done = tiny.tunesmith("report", home / final.run)
    assert done.returncode == 0, done.stderr
    said = tiny.tunesmith("generate", home / final.run, "--prompt", "Tom has a cat, no 3. What?", "--json")
    assert "text" in json.loads(said.stdout)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_20_real_trainings_and_their_workers_killed_at_random_moments(
    home: Path, store: Store, shared: Path, tmp_path: Path
) -> None:
    """Kills are spread over all of the jobs' time: each at a random moment once so many jobs have ended. More of them
    would prove no more, and throw away what takes longest: Python's start with all that a training imports."""
    queue, who, jobs = _real(store, shared / "models" / "stories260K", 20)
    chance, kills = random.Random(3), 0
    workers = [_worker(home, tmp_path / "log.txt", "--lease", "10") for _ in range(2)]
    try:
        while (done := queue.counts(who.project_id).get("succeeded", 0)) < len(jobs):
            if kills > 11 or done < 1.5 * kills:
                time.sleep(0.2)
                continue
            time.sleep(chance.uniform(1, 12))
            place = chance.randrange(2)
            workers[place].kill()
            workers[place].wait()
            workers[place] = _worker(home, tmp_path / "log.txt", "--lease", "10")
            kills += 1
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait(60)
    assert kills > 10
    _require_same_bytes(store, queue, who, jobs)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_paused_training_is_a_model_and_goes_on_to_the_same_end(
    home: Path, store: Store, shared: Path, tmp_path: Path
) -> None:
    queue, who, jobs = _real(store, shared / "models" / "stories260K", 2)
    worker = _worker(home, tmp_path / "log.txt")
    paused = jobs[0].id

    def now() -> Job:
        return queue.get(who.project_id, paused)

    try:
        _until(lambda: now().step >= 5)
        queue.pause(who.project_id, paused, actor="k")
        _until(lambda: now().status == "paused")
        (taken,) = queue.checkpoints(who.project_id, paused).data
        with store.reading() as connection:
            row = connection.execute(select(models).where(models.c.name == taken.model)).one()
        assert (home / row.weights / "adapter_model.safetensors").is_file()
        queue.resume(who.project_id, paused, actor="k")
        _until(lambda: queue.counts(who.project_id).get("succeeded", 0) == 2)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    _require_same_bytes(store, queue, who, jobs)
    with store.reading() as connection:
        final = connection.execute(select(models.c.weights).where(models.c.name == now().fine_tuned_model)).scalar_one()
    config = "adapter_config.json"  # of the snapshot it was made of the recipe, of the final one by the training
    assert json.loads((home / row.weights / config).read_text()) == json.loads((home / final / config).read_text())


def _until(holds: Any, seconds: float = 400.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)
