"""A worker: lanes that train, a lane that validates, and a keeper that looks after leases.

    lane     claim -> fence the folder -> start -> watch -> end        one job at a time
    keeper   says "I am alive", takes jobs from leases that ran out and from dead workers of this machine

Everything that a lane writes is under its lease. When the database does not answer, the training goes on and the lane
tries again; the training's guard stops it when that lasts longer than the lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from ..core.errors import OutputError, TunesmithError
from ..store.database import GoneError, Store
from . import folders
from .handler import Handler, RefusedError
from .leases import Leases
from .model import Failure, Job, Lease, LeaseLostError, Work
from .runners.base import Ended, Runner, Running
from .workers import Workers

T = TypeVar("T")


class Say(Protocol):
    """Where a worker's words go."""

    def __call__(self, text: str) -> None:
        """A line."""


@dataclass(frozen=True)
class Pace:
    """How often things are done, in seconds."""

    watch: float = 0.25
    """A running job is looked at: cancel and pause are heeded within this and what the process takes."""
    idle: float = 0.5
    """An empty queue is asked again."""
    keep: float = 1.0
    """Lost jobs are looked for."""
    again: float = 1.0
    """A database that did not answer is asked again."""
    patience: float = 20.0
    """A worker that shall stop waits so long for a database that does not answer."""


@dataclass
class _Watched:
    """A training that a lane watches."""

    lease: Lease
    running: Running
    began: float
    first_step: int
    asked: bool = False
    beaten: float = 0.0


class Worker:
    """Works until it is stopped. One for each process."""

    def __init__(
        self, store: Store, leases: Leases, runner: Runner, handler: Handler, *, slots: int = 1,
        pace: Pace | None = None, say: Say = lambda text: None,
    ):  # fmt: skip
        self._store, self._leases, self._runner, self._handler = store, leases, runner, handler
        self._workers = Workers(store)
        self._slots, self._pace, self._say = slots, pace or Pace(), say
        self._stopping = threading.Event()
        self._idle = [False] * (slots + 1)
        self.id = ""

    def stop(self) -> None:
        """Let trainings write a checkpoint, give jobs back, and end. Safe in a signal handler."""
        self._stopping.set()

    def run(self, *, until_empty: bool = False) -> None:
        """Work; with `until_empty` until no job waits or runs."""
        self.id = self._insist(self._workers.register) or ""
        lanes = [threading.Thread(target=self._lane, args=(i, "train"), daemon=True) for i in range(self._slots)]
        lanes.append(threading.Thread(target=self._lane, args=(self._slots, "validate"), daemon=True))
        for lane in lanes:
            lane.start()
        while not self._stopping.is_set():
            self._keep()
            if not all(lane.is_alive() for lane in lanes):
                self.stop()  # a fault of ours in a lane: another worker shall go on
            if until_empty and all(self._idle) and self._nothing_waits():
                self.stop()
            self._stopping.wait(self._pace.keep)
        for lane in lanes:
            lane.join()
        with suppress(GoneError):
            self._workers.leave(self.id)

    def _keep(self) -> None:
        with self._telling():
            self._workers.seen(self.id)
            self._leases.sweep(self._workers.dead_here())

    def _nothing_waits(self) -> bool:
        with suppress(GoneError):
            return not self._leases.unfinished()
        return False

    # a lane

    def _lane(self, number: int, work: Work) -> None:
        while not self._stopping.is_set():
            claimed = None
            with self._telling():
                claimed = self._leases.claim(self.id, work)
            self._idle[number] = claimed is None
            if claimed is None:
                self._stopping.wait(self._pace.idle)
                continue
            lease, job = claimed
            try:
                if work == "train":
                    self._train(lease, job)
                else:
                    self._validate(lease, job)
            except LeaseLostError:
                self._say(f"{job.id}: the lease is lost")
            except TunesmithError as error:
                self._broken(lease, str(error))
            except Exception as error:  # a fault of ours must not take the other jobs along
                self._broken(lease, f"unexpected: {type(error).__name__}: {error}")

    def _broken(self, lease: Lease, said: str) -> None:
        self._say(f"{lease.job_id}: {said}")
        with suppress(LeaseLostError):
            self._insist(lambda: self._leases.retry(lease, Failure("server_error", _first_line(said))))

    def _validate(self, lease: Lease, job: Job) -> None:
        self._say(f"{job.id}: validating")
        folder = self._store.jobs_folder / job.id
        with self._kept(lease):
            try:
                accepted = self._handler.prepare(job, folder)
            except RefusedError as refused:
                failure = refused.failure
                self._insist(lambda: self._leases.fail(lease, failure))
                return
        self._insist(lambda: self._leases.accept(lease, accepted.hyperparameters, warnings=accepted.warnings))

    def _train(self, lease: Lease, job: Job) -> None:
        folder = self._store.jobs_folder / job.id
        self._leases.look(lease)
        self._runner.reclaim(folder, lease.fence)
        run = folders.take(folder, lease.fence)
        self._say(f"{job.id}: training")
        running = self._runner.start(job, folder, run)
        watched = _Watched(lease, running, time.monotonic(), job.step)
        try:
            ended = self._watch(watched)
        except BaseException:
            running.kill()
            raise
        self._end(lease, job, folder, run, ended)

    def _watch(self, watched: _Watched) -> Ended:
        """Until it ends. LeaseLostError when the job is no longer ours."""
        stopping_since: float | None = None
        while True:
            ended = watched.running.ended()
            with self._telling():
                self._look(watched)
            if ended:
                return ended
            if self._stopping.is_set() and stopping_since is None:
                watched.running.interrupt()
                stopping_since = time.monotonic()
            time.sleep(self._pace.watch)

    def _look(self, watched: _Watched) -> None:
        """Tell of new steps, keep the lease, heed what is asked for."""
        steps, lease = watched.running.steps(), watched.lease
        now = time.monotonic()
        if steps:
            total = watched.running.total_steps()
            left = _seconds_left(steps[-1].step, watched.first_step, total, now - watched.began)
            self._insist(lambda: self._leases.progress(lease, steps, total, left))
        if steps or now - watched.beaten > self._leases.seconds / 4:
            job = self._leases.beat(lease)
            watched.running.beat()
            watched.beaten = now
        else:
            job = self._leases.look(lease)
        if job.status == "pausing" and not watched.asked:
            watched.running.interrupt()
            watched.asked = True

    def _end(self, lease: Lease, job: Job, folder: Path, run: Path, ended: Ended) -> None:
        self._say(f"{job.id}: {ended.how}")
        if ended.how == "refused":
            self._insist(lambda: self._leases.fail(lease, Failure("invalid_training_file", _told(ended.said))))
        elif ended.how == "broken":
            self._broken(lease, _told(ended.said))
        elif ended.how == "interrupted":
            self._interrupted(lease, job, folder, run)
        else:
            with self._kept(lease):
                outcome = self._handler.finish(job, folder, run)
                results = self._store.blobs.put([outcome.results]) if outcome.results else None
            try:
                self._insist(lambda: self._leases.succeed(lease, outcome, results))
            except BaseException:
                if results:
                    self._store.blobs.delete(results.name)
                raise

    def _interrupted(self, lease: Lease, job: Job, folder: Path, run: Path) -> None:
        current = self._insist(lambda: self._leases.look(lease))
        if current and current.status == "pausing":
            with self._kept(lease):
                taken = self._handler.snapshot(job, folder, run)
            if taken:
                place = str(run.relative_to(self._store.folder))
                self._insist(lambda: self._leases.snapshot(lease, place, taken))
        self._insist(lambda: self._leases.give_back(lease))

    # care

    @contextmanager
    def _kept(self, lease: Lease) -> Iterator[None]:
        """Beats while the block works."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self._leases.seconds / 4):
                with suppress(GoneError, LeaseLostError):
                    self._leases.beat(lease)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """A database that does not answer ends the block, and nothing else."""
        try:
            yield
        except (GoneError, OutputError) as error:
            self._say(error.what)

    def _insist(self, write: Callable[[], T]) -> T:
        """Write, as often as it takes until the database answers; what is written is refused if the lease is lost."""
        until: float | None = None
        while True:
            try:
                return write()
            except (GoneError, OutputError) as error:
                self._say(error.what)
                if self._stopping.is_set():
                    until = until or time.monotonic() + self._pace.patience
                    if time.monotonic() > until:
                        raise
                time.sleep(self._pace.again)


def _seconds_left(step: int, first: int, total: int | None, seconds: float) -> float | None:
    """By the pace since this process began."""
    done = step - first
    return seconds / done * (total - step) if total and done > 0 else None


def _first_line(text: str) -> str:
    return (text.splitlines() or ["no reason was told"])[0]


def _told(said: str) -> str:
    """Last words of a process as one sentence: its error, and why."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    start = max((i for i, line in enumerate(lines) if line.startswith("error:")), default=max(len(lines) - 1, 0))
    told = [line.removeprefix("error:").strip() for line in lines[start:] if not line.startswith("mend:")]
    return "; ".join(told)[:1000] or "the training ended without a word"
