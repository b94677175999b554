"""A worker with a runner that the test moves; and what the parts beside it do: folders, figures, the guard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from records import identity, submit
from steps import StepHandler, ThreadRunner, ThreadRunning, written
from tunesmith.core.errors import OutputError
from tunesmith.governance import audit
from tunesmith.jobs import folders, told
from tunesmith.jobs.leases import Leases
from tunesmith.jobs.machine import Process
from tunesmith.jobs.model import Job, Lease
from tunesmith.jobs.queue import Queue
from tunesmith.jobs.runners import Ended, LocalRunner
from tunesmith.jobs.worker import Pace, Worker, _told
from tunesmith.store.database import GoneError, Store


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `holds` gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.005)
    return found


class Shop:
    """A store, a queue, and a worker in a thread."""

    def __init__(self, folder: Path):
        self.store = Store.open(folder=folder)
        self.queue = Queue(self.store, audit.record)
        self.leases = Leases(self.store, audit.record, seconds=1.0)
        self.who = identity(self.store)
        self.runner = ThreadRunner()
        self.said: list[str] = []
        pace = Pace(watch=0.01, idle=0.01, keep=0.05, again=0.02, patience=0.5)
        self.worker = Worker(
            self.store, self.leases, self.runner, StepHandler(self.store), pace=pace, say=self.said.append
        )
        self.thread = threading.Thread(target=self.worker.run)

    def submit(self, **options: Any) -> Job:
        return submit(self.queue, self.who, method={"type": "supervised", "hyperparameters": {"steps": 4} | options})

    def status(self, job: Job) -> str:
        return self.queue.get(self.who.project_id, job.id).status

    def becomes(self, job: Job, status: str) -> None:
        until(lambda: self.status(job) == status)

    def running(self, job: Job) -> ThreadRunning:
        return until(lambda: self.runner.started.pop(job.id, None))  # type: ignore[no-any-return]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    shop.thread.start()
    yield shop
    shop.worker.stop()
    shop.thread.join()
    shop.store.close()


def test_a_job_from_its_files_to_its_model(shop: Shop) -> None:
    job = shop.submit()
    running = shop.running(job)
    running.train(3)
    until(lambda: shop.queue.get(shop.who.project_id, job.id).step == 3)
    assert shop.queue.get(shop.who.project_id, job.id).total_steps == 4
    running.train()
    running.end = Ended("done")
    shop.becomes(job, "succeeded")
    done = shop.queue.get(shop.who.project_id, job.id)
    assert done.trained_tokens == 4
    assert len(done.result_files) == 1
    assert running.beats > 0
    events = [e.message for e in shop.queue.events(shop.who.project_id, job.id).data]
    assert "Step 4/4: training loss=1.00" in events


def test_files_that_are_wrong_fail_the_job(shop: Shop) -> None:
    job = shop.submit(bad=True)
    shop.becomes(job, "failed")
    error = shop.queue.get(shop.who.project_id, job.id).error
    assert error is not None
    assert (error.code, error.message, error.param) == ("invalid_training_file", "it is bad", "training_file")


def test_a_cancelled_job_is_killed_and_the_worker_goes_on(shop: Shop) -> None:
    job = shop.submit()
    running = shop.running(job)
    running.train(2)
    shop.queue.cancel(shop.who.project_id, job.id, actor="k")
    until(lambda: running.killed)
    other = shop.submit()
    running = shop.running(other)
    running.train(4)
    running.end = Ended("done")
    shop.becomes(other, "succeeded")
    assert shop.status(job) == "cancelled"


def test_pause_stops_behind_a_checkpoint_and_resume_goes_on_in_the_same_folder(shop: Shop) -> None:
    job = shop.submit()
    running = shop.running(job)
    running.train(2)
    shop.queue.pause(shop.who.project_id, job.id, actor="k")
    assert running.interrupted.wait(10)
    assert shop.status(job) == "pausing"
    running.end = Ended("interrupted")
    shop.becomes(job, "paused")
    (taken,) = shop.queue.checkpoints(shop.who.project_id, job.id).data
    assert (taken.step_number, taken.model.endswith(":ckpt-step-2")) == (2, True)
    shop.queue.resume(shop.who.project_id, job.id, actor="k")
    running = shop.running(job)
    assert written(running.run) == [1, 2]
    running.train(2)
    running.end = Ended("done")
    shop.becomes(job, "succeeded")


def test_a_worker_that_shall_stop_gives_its_jobs_back(shop: Shop) -> None:
    job = shop.submit()
    running = shop.running(job)
    shop.worker.stop()
    assert running.interrupted.wait(10)
    running.end = Ended("interrupted")
    shop.thread.join(20)
    assert shop.status(job) == "queued"


def test_refused_and_broken_trainings(shop: Shop) -> None:
    refused = shop.submit()
    shop.running(refused).end = Ended("refused", "error: the file is wrong\n  why: line 3\n  mend: change it")
    shop.becomes(refused, "failed")
    error = shop.queue.get(shop.who.project_id, refused.id).error
    assert error is not None
    assert error.message == "the file is wrong; why: line 3"
    broken = shop.submit()
    shop.running(broken).end = Ended("broken", "Killed")
    shop.becomes(broken, "queued")
    assert shop.queue.get(shop.who.project_id, broken.id).failures == 1


def test_a_fault_of_ours_costs_one_job_a_try_and_no_other_job(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(shop.runner, "start", broken)
    job = shop.submit()
    until(lambda: shop.queue.get(shop.who.project_id, job.id).failures == 1)
    monkeypatch.undo()
    other = shop.submit()
    running = shop.running(other)
    running.train(4)
    running.end = Ended("done")
    shop.becomes(other, "succeeded")


def test_a_database_that_is_away_for_a_while_costs_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    job = shop.submit()
    running = shop.running(job)
    away = threading.Event()
    for name in ("progress", "beat", "look", "succeed", "sweep", "claim"):
        monkeypatch.setattr(shop.leases, name, _sometimes(getattr(shop.leases, name), away))
    away.set()
    running.train(4)
    running.end = Ended("done")
    until(lambda: shop.said.count("away") > 5)
    assert shop.status(job) == "running"
    away.clear()
    shop.becomes(job, "succeeded")
    steps = [e for e in shop.queue.events(shop.who.project_id, job.id).data if e.type == "metrics"]
    assert len(steps) == 4


def _sometimes(call: Callable[..., Any], away: threading.Event) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if away.is_set():
            raise GoneError("away")
        return call(*arguments, **named)

    return wrapped


def test_a_long_validation_keeps_its_lease(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    usual = StepHandler.prepare

    def slow(self: StepHandler, job: Job, folder: Path) -> Any:
        done.wait(20)
        return usual(self, job, folder)

    monkeypatch.setattr(StepHandler, "prepare", slow)
    beats: list[Lease] = []
    beat = shop.leases.beat
    monkeypatch.setattr(shop.leases, "beat", lambda lease: (beats.append(lease), beat(lease))[1])
    job = shop.submit()
    until(lambda: len(beats) > 5)  # a lease is 1 s, and a beat comes in a quarter of it
    assert shop.leases.sweep() == 0
    assert shop.status(job) == "validating_files"
    done.set()
    shop.becomes(job, "running")
    running = shop.running(job)
    running.train(4)
    running.end = Ended("done")
    shop.becomes(job, "succeeded")


def test_a_lane_that_ends_by_a_fault_ends_the_worker(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(shop.leases, "claim", broken)
    shop.thread.join(20)
    assert not shop.thread.is_alive()


def test_last_words() -> None:
    assert _told("step 1\nerror: no room\n  why: full\n  mend: free some") == "no room; why: full"
    assert _told("a\nKilled") == "Killed"
    assert _told("") == "the training ended without a word"


# folders


def test_a_runs_folder_goes_to_who_has_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    first = folders.take(folder, 2)
    assert not first.exists()
    first.mkdir()
    (first / "metrics.jsonl").write_text("x")
    second = folders.take(folder, 5)
    assert second.name == "run-5"
    assert (second / "metrics.jsonl").read_text() == "x"
    assert not first.exists()
    assert folders.take(folder, 5) == second
    late = folders.take(folder, 3)  # a claim that was lost wakes up: it finds nothing, and takes nothing
    assert not late.exists()
    assert (second / "metrics.jsonl").exists()
    late.mkdir()
    assert folders.take(folder, 6).name == "run-6"
    assert sorted(p.name for p in folder.iterdir()) == ["run-6"]


def test_the_newest_input_counts(tmp_path: Path) -> None:
    for fence in (1, 10, 9):
        folders.input_folder(tmp_path, fence).mkdir()
    (tmp_path / "input-99").touch()
    assert folders.newest_input(tmp_path).name == "input-10"


# figures


def test_a_step_is_told_when_all_of_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    steps = told.Steps(path)
    assert steps.read() == []
    with path.open("a") as file:
        file.write('{"step": 1, "loss": 2.0}\n')
        file.flush()
        assert steps.read() == []
        file.write('{"step": 1, "validation_loss": 3.0}\n{"step": 2, "lo')
        file.flush()
        assert steps.read() == []
        file.write('ss": 1.0}\n{"step": 3, "loss": 0.5}\n')
        file.flush()
    assert [s["step"] for s in steps.read()] == [1, 2]
    assert steps.read() == []
    rewritten = tmp_path / "new"
    rewritten.write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "loss": 0.5}\n{"step": 4, "loss": 0.4}\n'
    )
    rewritten.rename(path)
    assert [s["step"] for s in steps.read(to_the_end=True)] == [3, 4]


def test_a_step_in_the_hosted_services_words() -> None:
    plain = told.metric({"step": 1, "loss": 0.2249, "tokens": 8}, 300)
    assert plain.message == "Step 1/300: training loss=0.22"
    assert plain.data == {"step": 1, "total_steps": 300, "train_loss": 0.2249}
    full = told.metric({"step": 300, "loss": 0.0, "token_accuracy": 1.0, "validation_loss": 0.05,
                        "validation_token_accuracy": 0.9}, 300)  # fmt: skip
    assert full.message == "Step 300/300: training loss=0.00, validation loss=0.05, full validation loss=0.05"
    assert full.data == {
        "step": 300, "total_steps": 300, "train_loss": 0.0, "train_mean_token_accuracy": 1.0, "valid_loss": 0.05,
        "full_valid_loss": 0.05, "valid_mean_token_accuracy": 0.9, "full_valid_mean_token_accuracy": 0.9,
    }  # fmt: skip
    assert told.metric({"step": 1, "loss": None}, 2).message == "Step 1/2: training loss=nan"


def test_the_result_file() -> None:
    rows = [{"step": 1, "loss": 1.5}, {"step": 2, "loss": 0.25, "token_accuracy": 0.5, "validation_loss": 1.0}]
    assert told.results(rows).decode().splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,1.50000,,,",
        "2,0.25000,0.50000,1.00000,",
    ]


# processes

TALKING = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); print('up', flush=True); "


def _runner(code: str, **options: float) -> LocalRunner:
    return LocalRunner(lambda job, folder, run: (sys.executable, "-I", "-S", "-c", code), **options)


def _job(fence: int = 1) -> Any:
    class OnlyFence:
        id = "ftjob-x"

    job = OnlyFence()
    job.fence = fence  # type: ignore[attr-defined]
    return job


def _is_up(folder: Path) -> bool:
    return "up" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("code", "how"),
    [(0, "done"), (10, "done"), (75, "interrupted"), (3, "refused"), (4, "refused"), (1, "broken"), (7, "broken")],
)
def test_exit_codes(tmp_path: Path, code: int, how: str) -> None:
    running = _runner(f"print('bye'); raise SystemExit({code})").start(_job(), tmp_path, tmp_path / "run")
    assert until(running.ended) == Ended(how, "bye")  # type: ignore[arg-type]


def test_interrupt_lets_it_save_and_kill_does_not(tmp_path: Path) -> None:
    code = TALKING + "time.sleep(99)"
    running = _runner(code).start(_job(), tmp_path, tmp_path / "run")
    until(lambda: _is_up(tmp_path))
    running.interrupt()
    assert until(running.ended).how == "interrupted"
    (tmp_path / "log.txt").unlink()
    running = _runner(code).start(_job(), tmp_path, tmp_path / "run")
    until(lambda: _is_up(tmp_path))
    running.kill()
    ended = running.ended()
    assert ended is not None
    assert ended.how == "broken"


def test_kill_takes_the_whole_tree(tmp_path: Path) -> None:
    child = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(98)']); "
    )
    running = _runner(child + TALKING + "time.sleep(99)").start(_job(), tmp_path, tmp_path / "run")
    until(lambda: _is_up(tmp_path))
    guard = psutil.Process(running._process.pid)
    tree = until(lambda: len(found := guard.children(recursive=True)) == 2 and found)
    running.kill()
    assert psutil.wait_procs(tree, timeout=5)[1] == []


def test_it_stops_when_no_beat_comes_and_when_its_worker_is_gone(tmp_path: Path) -> None:
    code = TALKING + "time.sleep(99)"
    running = _runner(code, patience=0.6).start(_job(), tmp_path, tmp_path / "run")
    for _ in range(8):
        time.sleep(0.15)
        running.beat()
    assert running.ended() is None  # twice its patience, kept alive by beats
    assert until(running.ended).how == "interrupted"
    (tmp_path / "log.txt").unlink()
    running = _runner(code).start(_job(), tmp_path, tmp_path / "run")
    until(lambda: _is_up(tmp_path))
    running._close()  # what the system does for a worker that is killed
    assert until(running.ended).how == "interrupted"


def test_one_that_does_not_heed_is_killed_after_a_grace(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
    running = _runner(deaf, grace=0.3).start(_job(), tmp_path, tmp_path / "run")
    until(lambda: _is_up(tmp_path))
    running.interrupt()
    assert until(running.ended).how == "broken"


def test_a_later_claim_ends_what_an_earlier_one_left_and_never_the_other_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.jobs.runners.local._LEFT_ALONE", 0.2)
    runner = _runner(TALKING + "time.sleep(99)")
    running = runner.start(_job(4), tmp_path, tmp_path / "run")
    until(lambda: _is_up(tmp_path))
    runner.reclaim(tmp_path, 3)
    runner.reclaim(tmp_path, 4)
    assert running.ended() is None
    os.kill(running._process.pid, signal.SIGSTOP)
    runner.reclaim(tmp_path, 5)
    assert until(running.ended).how == "broken"
    runner.reclaim(tmp_path, 6)


def test_a_number_that_another_process_has_now_is_not_taken_for_the_first(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(99)"])
    mine = Process.of(sleeper.pid)
    assert mine.alive()
    Process(mine.host, mine.boot, mine.pid, mine.started - 100).kill()
    Process("elsewhere", mine.boot, mine.pid, mine.started).kill()
    Process(mine.host, "another boot", mine.pid, mine.started).kill()
    assert sleeper.poll() is None
    mine.kill()
    assert sleeper.wait(5) == -signal.SIGKILL
    assert not mine.alive()


def test_the_run_of_a_lost_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "job").touch()
    with pytest.raises(OutputError):
        folders.take(tmp_path / "job", 1)


def test_figures_come_from_the_runs_folder(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"planned_steps": 2}))
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')
    running = _runner("pass").start(_job(), tmp_path, run)
    until(running.ended)
    assert [m.message for m in running.steps()] == ["Step 1/2: training loss=1.00", "Step 2/2: training loss=0.50"]
