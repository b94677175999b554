"""Workers for jobs of step writers, in this process or in one of their own: python -m steps FOLDER [NAME=VALUE...]"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tunesmith.governance import audit
from tunesmith.jobs import folders, told
from tunesmith.jobs.handler import Accepted, RefusedError
from tunesmith.jobs.leases import Leases
from tunesmith.jobs.model import Failure, Job, Metric, Outcome, Snapshot
from tunesmith.jobs.runners import Ended, LocalRunner
from tunesmith.jobs.worker import Pace, Worker
from tunesmith.store.database import Store
from tunesmith.store.tables import job_events, jobs, models

WRITER = Path(__file__).with_name("step_writer.py")
TESTS = Path(__file__).parent


class StepHandler:
    """What a job's steps are is told in its hyperparameters: {"steps": 5}."""

    def __init__(self, store: Store):
        self.folder = store.folder

    def prepare(self, job: Job, folder: Path) -> Accepted:
        if job.method["hyperparameters"].get("bad"):
            raise RefusedError(Failure("invalid_training_file", "it is bad", "training_file"))
        folders.input_folder(folder, job.fence).mkdir(parents=True, exist_ok=True)
        return Accepted({"n_epochs": 1})

    def snapshot(self, job: Job, folder: Path, run: Path) -> Snapshot | None:
        steps = written(run)
        return Snapshot(steps[-1], job.base, f"models/{steps[-1]}") if steps else None

    def finish(self, job: Job, folder: Path, run: Path) -> Outcome:
        steps = written(run)
        if steps != list(range(1, steps_of(job) + 1)):
            raise RuntimeError(f"two wrote at once: {steps}")
        final = Snapshot(steps[-1], job.base, str(run.relative_to(self.folder)))
        results = told.results(told.Steps(run / "metrics.jsonl").read(to_the_end=True))
        return Outcome(str(run.relative_to(self.folder)), final, results=results, trained_tokens=len(steps))


def steps_of(job: Job) -> int:
    return int(job.method["hyperparameters"]["steps"])


def written(run: Path) -> list[int]:
    try:
        return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    except FileNotFoundError:
        return []


def writer_command(seconds: float) -> Any:
    def command(job: Job, folder: Path, run: Path) -> Sequence[str]:
        return (sys.executable, "-I", "-S", str(WRITER), str(run), str(steps_of(job)), str(seconds))

    return command


class ThreadRunner:
    """A runner in plain Python: a thread that the test moves on. The second implementation of the Protocol."""

    def __init__(self) -> None:
        self.started: dict[str, ThreadRunning] = {}
        self.reclaimed: list[int] = []

    def start(self, job: Job, folder: Path, run: Path) -> ThreadRunning:
        run.mkdir(exist_ok=True)
        running = ThreadRunning(steps_of(job), run)
        self.started[job.id] = running
        return running

    def reclaim(self, folder: Path, fence: int) -> None:
        self.reclaimed.append(fence)


@dataclass
class ThreadRunning:
    """Steps that the test lets happen."""

    total: int
    run: Path
    new: list[Metric] = field(default_factory=list)
    end: Ended | None = None
    beats: int = 0
    killed: bool = False
    interrupted: threading.Event = field(default_factory=threading.Event)

    def train(self, count: int = 1) -> None:
        for _ in range(count):
            number = len(written(self.run)) + 1
            with (self.run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": number, "loss": 1.0}) + "\n")
            self.new.append(told.metric({"step": number, "loss": 1.0}, self.total))

    def steps(self) -> list[Metric]:
        new, self.new = self.new, []
        return new

    def total_steps(self) -> int | None:
        return self.total

    def ended(self) -> Ended | None:
        return self.end

    def beat(self) -> None:
        self.beats += 1

    def interrupt(self) -> None:
        self.interrupted.set()

    def kill(self) -> None:
        self.killed = True


def start_worker(folder: Path, log: Path, **settings: object) -> subprocess.Popen[bytes]:
    """A worker as a process of its own, in a group of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    given = [f"{name}={value}" for name, value in settings.items()]
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "steps", str(folder), *given], stdout=out, stderr=out, env=environment,
            start_new_session=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip


def require_one_effect_each(store: Store, project_id: str) -> None:
    """Every job succeeded, with one model, each step told once, and a folder that one at a time has written."""
    with store.reading() as connection:
        rows = connection.execute(select(jobs).where(jobs.c.project_id == project_id)).all()
        made = connection.execute(select(models.c.job_id).where(models.c.kind == "final")).scalars().all()
        query = select(job_events.c.job_id, job_events.c.step).where(job_events.c.step.is_not(None))
        steps: dict[str, list[int]] = {row.id: [] for row in rows}
        for job_id, step in connection.execute(query.order_by(job_events.c.number)):
            steps[job_id].append(step)
        runs = {row.job_id: store.folder / row.run for row in connection.execute(select(models))}
    assert {row.status for row in rows} == {"succeeded"}, [(row.id, row.status, row.error) for row in rows]
    assert sorted(made) == sorted(row.id for row in rows)
    for row in rows:
        wanted = list(range(1, row.method["hyperparameters"]["steps"] + 1))
        assert steps[row.id] == wanted
        assert written(runs[row.id]) == wanted
        assert len(row.result_files) == 1
    done = [entry.target for entry in audit.entries(store, limit=1_000_000) if entry.action == "job.succeed"]
    assert sorted(done) == sorted(made)
    assert audit.verify(store).bad is None


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0])
    settings = {"lease": "3", "seconds": "0.01", "url": "", "until_empty": "", "slots": "1"}
    settings |= dict(argument.partition("=")[::2] for argument in arguments[1:])  # type: ignore[misc]
    store = Store.open(settings["url"] or None, folder)
    lease = float(settings["lease"])
    worker = Worker(
        store, Leases(store, audit.record, seconds=lease),
        LocalRunner(writer_command(float(settings["seconds"])), patience=lease, grace=5.0), StepHandler(store),
        slots=int(settings["slots"]), pace=Pace(watch=0.05, idle=0.05, keep=0.2, again=0.2),
        say=lambda text: print(text, flush=True),
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run(until_empty=bool(settings["until_empty"]))


if __name__ == "__main__":
    main(sys.argv[1:])
