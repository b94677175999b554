"""Whatever is done to jobs in whatever order: only legal moves, one holder, each step told once, one model."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from records import Clock, identity, submit
from tunesmith.governance import audit
from tunesmith.jobs.leases import RETRIES, Leases
from tunesmith.jobs.model import Failure, Job, Lease, LeaseLostError, Metric, Outcome, Snapshot
from tunesmith.jobs.queue import Queue
from tunesmith.jobs.states import FINAL, HELD, STATUSES, TRANSITIONS, IllegalMoveError, sources, target
from tunesmith.store import tables
from tunesmith.store.database import Store

LEASE = 10.0
DOCS = Path(__file__).parents[2] / "docs" / "jobs.md"


class Jobs(RuleBasedStateMachine):
    """A model that is a dict beside a store that is real."""

    jobs: Bundle[str] = Bundle("jobs")
    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(folder=Path(self.folder.name), clock=self.clock)
        self.queue = Queue(self.store, audit.record)
        self.work = Leases(self.store, audit.record, seconds=LEASE)
        self.who = identity(self.store)
        self.status: dict[str, str] = {}
        self.holder: dict[str, Lease] = {}
        self.until: dict[str, float] = {}
        self.told: dict[str, int] = {}

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(target=jobs, priority=st.integers(0, 1))
    def submit(self, priority: int) -> str:
        job = submit(self.queue, self.who, priority=priority)
        self.status[job.id], self.told[job.id] = job.status, 0
        return job.id

    @rule(target=leases, worker=st.sampled_from("ab"), train=st.booleans())
    def claim(self, worker: str, train: bool) -> Any:
        claimed = self.work.claim(worker, "train" if train else "validate")
        wanted = "queued" if train else "validating_files"
        free = {id for id, status in self.status.items() if status == wanted and id not in self.holder}
        if claimed is None:
            waiting = {id for id in free if self._job(id).failures == 0 and self._ready(id)}
            assert not waiting
            return multiple()
        lease, job = claimed
        assert lease.job_id in free
        assert job.fence == lease.fence
        self.holder[job.id], self.until[job.id] = lease, self.clock.at + LEASE
        if train:
            self.status[job.id] = "running"
        return lease

    def _ready(self, id: str) -> bool:
        queued_at = self._job(id).queued_at
        return queued_at is None or queued_at <= self.clock.at

    def _job(self, id: str) -> Job:
        return self.queue.get(self.who.project_id, id)

    def _under(self, lease: Lease, write: Callable[[], Any]) -> Any:
        """What a write under a lease gives; it must be refused exactly where the lease is no longer the job's."""
        if self.holder.get(lease.job_id) != lease:
            with pytest.raises(LeaseLostError):
                write()
            return None
        return write()

    @rule(lease=leases)
    def beat(self, lease: Lease) -> None:
        if self._under(lease, lambda: self.work.beat(lease)):
            self.until[lease.job_id] = self.clock.at + LEASE

    @rule(lease=leases, count=st.integers(1, 3), again=st.integers(0, 2))
    def progress(self, lease: Lease, count: int, again: int) -> None:
        """Some new steps, and some that were trained before."""
        first = max(1, self.told[lease.job_id] + 1 - again)
        numbers = range(first, self.told[lease.job_id] + 1 + count)
        steps = [Metric(n, f"Step {n}/9: training loss=1.00", {"step": n}) for n in numbers]
        mine = self.holder.get(lease.job_id) == lease
        self._under(lease, lambda: self.work.progress(lease, steps, 9))
        if mine:
            self.told[lease.job_id] += count
            self.until[lease.job_id] = self.clock.at + LEASE

    @rule(lease=leases)
    def end_of_validation(self, lease: Lease) -> None:
        if lease.work == "validate":
            self._end(lease, lambda: self.work.accept(lease, {}), "accept")

    @rule(lease=leases, how=st.sampled_from(["succeed", "fail", "give_back", "retry"]))
    def end(self, lease: Lease, how: str) -> None:
        if how == "succeed":
            if lease.work == "train":
                done = Outcome("run", Snapshot(9, "b", "w"), (Snapshot(3, "b", "w3"),))
                self._end(lease, lambda: self.work.succeed(lease, done), "succeed")
        elif how == "fail":
            self._end(lease, lambda: self.work.fail(lease, Failure("c", "m")), "fail")
        else:
            failures = self._job(lease.job_id).failures
            back = how == "give_back" or failures + 1 < RETRIES or self.status[lease.job_id] == "pausing"
            write = self.work.give_back if how == "give_back" else lambda x: self.work.retry(x, Failure("c", "m"))
            action = {"running": "requeue", "pausing": "stop"}.get(self.status[lease.job_id]) if back else "fail"
            self._end(lease, lambda: write(lease), action)

    def _end(self, lease: Lease, write: Callable[[], Any], action: str | None) -> None:
        if self._under(lease, write) is not None:
            self._move(lease.job_id, action)

    def _move(self, id: str, action: str | None) -> None:
        del self.holder[id]
        if action:
            to = target(self.status[id], action)  # type: ignore[arg-type]
            assert to is not None
            self.status[id] = to

    @rule(id=jobs, action=st.sampled_from(["pause", "resume", "cancel"]))
    def ask(self, id: str, action: Any) -> None:
        to = target(self.status[id], action)  # type: ignore[arg-type]
        call = getattr(self.queue, action)
        if to is None:
            with pytest.raises(IllegalMoveError):
                call(self.who.project_id, id, actor="k")
            return
        assert call(self.who.project_id, id, actor="k").status == to
        self.status[id] = to
        if action == "cancel":
            self.holder.pop(id, None)

    @rule(seconds=st.sampled_from([1.0, LEASE + 1, 1000.0]), dead=st.sampled_from(["", "a"]))
    def time_goes_on(self, seconds: float, dead: str) -> None:
        self.clock.wait(seconds)
        lost = {id for id, lease in self.holder.items() if self.until[id] < self.clock.at or lease.worker_id == dead}
        assert self.work.sweep(dead=[dead]) == len(lost)
        for id in lost:
            self._move(id, {"running": "requeue", "pausing": "stop"}.get(self.status[id]))

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        with self.store.reading() as connection:
            rows = connection.execute(select(tables.jobs)).all()
            final = connection.execute(select(tables.models.c.job_id).where(tables.models.c.kind == "final")).scalars()
            events = tables.job_events.c
            steps = connection.execute(select(events.job_id, events.step).where(events.step.is_not(None))).all()
            made = sorted(final)
        assert {row.id: row.status for row in rows} == self.status
        for row in rows:
            lease = self.holder.get(row.id)
            assert (row.worker_id, row.fence) == (lease.worker_id, lease.fence) if lease else row.worker_id is None
            assert lease is None or row.status in HELD
        assert made == sorted(id for id, status in self.status.items() if status == "succeeded")
        assert sorted(steps) == sorted((id, n) for id, count in self.told.items() for n in range(1, count + 1))
        assert audit.verify(self.store).bad is None


def _run(examples: int, steps: int) -> None:
    slow_is_fine = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Jobs,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=slow_is_fine
        ),
    )


def test_random_lives_of_jobs_keep_the_law() -> None:
    _run(8, 30)


@pytest.mark.slow
def test_many_random_lives_of_jobs_keep_the_law() -> None:
    _run(150, 50)


def test_the_table_of_moves_is_sane() -> None:
    assert {status for status, _ in TRANSITIONS} == set(STATUSES) - FINAL
    assert set(TRANSITIONS.values()) == set(STATUSES) - {"validating_files"}
    assert sources("cancel") == ("validating_files", "queued", "running", "pausing", "paused")
    assert set(tables.STATUSES) == set(STATUSES)


def test_the_docs_draw_exactly_these_moves() -> None:
    drawn = re.findall(r"^\s+(\w+) --> (\w+): (\w+)$", DOCS.read_text("utf-8"), flags=re.MULTILINE)
    assert {(a, action): b for a, b, action in drawn} == TRANSITIONS
    assert len(drawn) == len(TRANSITIONS)
