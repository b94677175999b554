"""The queue: who asks, who works, and what each may write. On SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from records import Clock, database, identity, postgres, submit
from tunesmith.governance import audit
from tunesmith.governance.keys import Identity, Keys
from tunesmith.jobs.leases import RETRIES, Leases
from tunesmith.jobs.model import (
    Failure,
    Job,
    Lease,
    LeaseLostError,
    Metric,
    NoJobError,
    Outcome,
    Snapshot,
    TooManyJobsError,
)
from tunesmith.jobs.queue import Queue
from tunesmith.jobs.states import IllegalMoveError
from tunesmith.jobs.workers import Workers
from tunesmith.store.database import Store
from tunesmith.store.tables import files, models, workers

WRONG = Failure("invalid_training_file", "it is wrong", "training_file")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


class Bench:
    """A store with a queue, its working side, and one key."""

    def __init__(self, store: Store, clock: Clock):
        self.store, self.clock = store, clock
        self.queue, self.leases = Queue(store, audit.record), Leases(store, audit.record, seconds=30)
        self.who = identity(store)

    def queued(self, who: Identity | None = None, **changes: object) -> Job:
        job = submit(self.queue, who or self.who, **changes)
        lease = self.claim("validate", "v")
        assert lease.job_id == job.id
        return self.leases.accept(lease, {"n_epochs": 3})

    def claim(self, work: str = "train", worker: str = "w1") -> Lease:
        claimed = self.leases.claim(worker, work)  # type: ignore[arg-type]
        assert claimed is not None
        return claimed[0]

    def now(self, job: Job | Lease) -> Job:
        return self.queue.get(self.who.project_id, job.job_id if isinstance(job, Lease) else job.id)

    def story(self, job: Job | Lease) -> list[str]:
        id = job.job_id if isinstance(job, Lease) else job.id
        return [event.message for event in self.queue.events(self.who.project_id, id, limit=1000).data[::-1]]


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    url = None if request.param == "sqlite" else database(request.getfixturevalue("server"))
    clock = Clock()
    store = Store.open(url, tmp_path, clock=clock)
    yield Bench(store, clock)
    store.close()


def step(number: int) -> Metric:
    return Metric(number, f"Step {number}/9: training loss=1.00", {"step": number, "total_steps": 9, "train_loss": 1.0})


def outcome(*earlier: int, results: bytes = b"") -> Outcome:
    taken = tuple(Snapshot(n, "bundled/tunesmith-8m", f"models/step-{n}") for n in earlier)
    final = Snapshot(9, "bundled/tunesmith-8m", "run-2/adapter", {"step": 9, "train_loss": 0.5})
    return Outcome("run-2", final, taken, trained_tokens=123, verdict={"passed": False, "reasons": []}, results=results)


def test_the_life_of_a_job(bench: Bench) -> None:
    job = submit(bench.queue, bench.who, suffix="mine", validation_file="file-valid", metadata={"a": "b"})
    assert (job.status, job.hyperparameters, job.metadata) == ("validating_files", None, {"a": "b"})
    queued = bench.leases.accept(bench.claim("validate"), {"n_epochs": 3}, warnings=["a warning"])
    assert (queued.status, queued.hyperparameters, queued.worker_id) == ("queued", {"n_epochs": 3}, None)
    lease = bench.claim()
    assert bench.now(job).status == "running"
    bench.leases.progress(lease, [step(1), step(2)], 9, seconds_left=70.0)
    running = bench.now(job)
    assert (running.step, running.total_steps, running.estimated_finish) == (2, 9, bench.clock.at + 70)
    bench.clock.wait(5)
    blob = bench.store.blobs.put([b"step,train_loss\n"])
    done = bench.leases.succeed(lease, outcome(3, 6), blob)
    assert (done.status, done.finished_at, done.estimated_finish) == ("succeeded", bench.clock.at, None)
    assert done.fine_tuned_model is not None
    assert done.fine_tuned_model.startswith("ft:tiny:personal:mine:")
    assert (done.trained_tokens, done.verdict) == (123, {"passed": False, "reasons": []})
    page = bench.queue.checkpoints(bench.who.project_id, job.id)
    assert [c.step_number for c in page.data] == [9, 6, 3]
    assert page.data[0].model == done.fine_tuned_model
    assert page.data[2].model.endswith(":ckpt-step-3")
    assert page.data[0].metrics == {"step": 9, "train_loss": 0.5}
    assert bench.story(job) == [
        f"Created fine-tuning job: {job.id}",
        "Validating training file: file-train and validation file: file-valid",
        "a warning",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        "Step 1/9: training loss=1.00",
        "Step 2/9: training loss=1.00",
        f"Checkpoint created at step 3 with Snapshot ID: {page.data[2].model}",
        f"Checkpoint created at step 6 with Snapshot ID: {page.data[1].model}",
        f"New fine-tuned model created: {done.fine_tuned_model}",
        "The job has successfully completed",
    ]
    with bench.store.reading() as connection:
        (file,) = connection.execute(select(files)).all()
        assert (done.result_files, file.purpose, file.blob) == ((file.id,), "fine-tune-results", blob.name)
        assert len(connection.execute(select(models)).all()) == 3
    told = [entry.action for entry in audit.entries(bench.store) if entry.action.startswith("job.")]
    assert told == ["job.created", "job.accept", "job.begin", "job.succeed"]


def test_wrong_files_fail_a_job(bench: Bench) -> None:
    job = submit(bench.queue, bench.who)
    failed = bench.leases.fail(bench.claim("validate"), WRONG)
    assert (failed.status, failed.error, failed.worker_id) == ("failed", WRONG, None)
    assert bench.story(job)[-1] == "it is wrong"
    assert bench.leases.claim("w", "validate") is None
    assert bench.leases.claim("w", "train") is None


def test_another_projects_job_is_not_there(bench: Bench) -> None:
    job = bench.queued()
    Keys(bench.store).add_project("other", "o", "o")
    for call in (
        lambda: bench.queue.get("other", job.id), lambda: bench.queue.events("other", job.id),
        lambda: bench.queue.checkpoints("other", job.id), lambda: bench.queue.cancel("other", job.id, actor="x"),
        lambda: bench.queue.pause("other", job.id, actor="x"), lambda: bench.queue.resume("other", job.id, actor="x"),
        lambda: bench.queue.prioritise("other", job.id, 9, actor="x"),
    ):  # fmt: skip
        with pytest.raises(NoJobError):
            call()  # type: ignore[no-untyped-call]
    assert bench.queue.list("other").data == []
    assert bench.queue.counts("other") == {}
    assert bench.now(job) == job


def test_pages_go_from_new_to_old_and_end(bench: Bench) -> None:
    made = [submit(bench.queue, bench.who, metadata={"n": str(i % 2)} if i < 4 else None).id for i in range(5)]
    project = bench.who.project_id
    first = bench.queue.list(project, limit=2)
    second = bench.queue.list(project, limit=2, after=first.data[-1].id)
    last = bench.queue.list(project, limit=2, after=second.data[-1].id)
    assert [j.id for page in (first, second, last) for j in page.data] == made[::-1]
    assert (first.has_more, second.has_more, last.has_more) == (True, True, False)
    assert bench.queue.list(project, after="ftjob-unknown").data == []
    assert [j.id for j in bench.queue.list(project, metadata={"n": "1"}).data] == [made[3], made[1]]
    assert bench.queue.list(project, metadata={"n": "1", "m": "1"}).data == []
    assert [j.id for j in bench.queue.list(project, without_metadata=True).data] == [made[4]]
    events = bench.queue.events(project, made[0], limit=1)
    assert (len(events.data), events.has_more) == (1, True)
    rest = bench.queue.events(project, made[0], after=events.data[0].id)
    assert [e.message for e in rest.data] == [f"Created fine-tuning job: {made[0]}"]
    assert bench.queue.events(project, made[1], after=events.data[0].id).data == []


def test_a_cancelled_jobs_worker_can_write_nothing(bench: Bench) -> None:
    job = bench.queued()
    lease = bench.claim()
    bench.leases.progress(lease, [step(1)], 9)
    cancelled = bench.queue.cancel(bench.who.project_id, job.id, actor="key:x")
    assert (cancelled.status, cancelled.worker_id) == ("cancelled", None)
    before = bench.story(job)
    _can_write_nothing(bench, lease)
    assert bench.story(job) == before
    assert bench.now(job) == cancelled


def _can_write_nothing(bench: Bench, lease: Lease) -> None:
    at = bench.leases
    for write in (
        lambda: at.beat(lease), lambda: at.look(lease), lambda: at.tell(lease, "x"),
        lambda: at.progress(lease, [step(8)], 9), lambda: at.snapshot(lease, "run-9", outcome().final),
        lambda: at.accept(lease, {}), lambda: at.fail(lease, WRONG), lambda: at.retry(lease, WRONG),
        lambda: at.give_back(lease), lambda: at.succeed(lease, outcome(3)),
    ):  # fmt: skip
        with pytest.raises(LeaseLostError):
            write()  # type: ignore[no-untyped-call]


def test_a_lease_that_ran_out_is_its_holders_until_another_takes_it(bench: Bench) -> None:
    job = bench.queued()
    first = bench.claim(worker="w1")
    bench.leases.progress(first, [step(1), step(2)], 9)
    bench.clock.wait(31)
    bench.leases.beat(first)
    bench.clock.wait(29)
    assert bench.leases.sweep() == 0
    bench.clock.wait(2)
    assert bench.leases.sweep() == 1
    lost = bench.now(job)
    assert (lost.status, lost.worker_id) == ("queued", None)
    _can_write_nothing(bench, first)
    second = bench.claim(worker="w1")  # the same worker again: it is the fence that counts
    assert second.fence > first.fence
    _can_write_nothing(bench, first)
    bench.leases.progress(second, [step(2), step(3)], 9)
    done = bench.leases.succeed(second, outcome())
    _can_write_nothing(bench, first)
    _can_write_nothing(bench, second)
    assert bench.now(job) == done
    steps = [line for line in bench.story(job) if line.startswith("Step")]
    assert steps == [step(n).message for n in (1, 2, 3)]
    assert sum(line.startswith("Fine-tuning job started") for line in bench.story(job)) == 1


def test_a_dead_workers_job_need_not_wait_for_its_lease(bench: Bench) -> None:
    job = bench.queued()
    bench.claim(worker="w1")
    assert bench.leases.sweep(dead=["w2"]) == 0
    assert bench.leases.sweep(dead=["w1"]) == 1
    assert bench.now(job).status == "queued"
    submit(bench.queue, bench.who)
    lease = bench.claim("validate", "w1")
    assert bench.leases.claim("w2", "validate") is None
    assert bench.leases.sweep(dead=["w1"]) == 1
    assert bench.now(lease).status == "validating_files"
    assert bench.claim("validate", "w2").fence == lease.fence + 1


def test_pause_and_resume(bench: Bench) -> None:
    project = bench.who.project_id
    job = bench.queued()
    assert bench.queue.pause(project, job.id, actor="k").status == "paused"
    assert bench.leases.claim("w", "train") is None
    assert bench.queue.resume(project, job.id, actor="k").status == "queued"
    lease = bench.claim()
    bench.leases.progress(lease, [step(1)], 9, seconds_left=9.0)
    pausing = bench.queue.pause(project, job.id, actor="k")
    assert (pausing.status, pausing.estimated_finish) == ("pausing", None)
    name = bench.leases.snapshot(lease, "run-2", Snapshot(1, "b", "models/2-step-1"))
    assert name.endswith(":ckpt-step-1")
    paused = bench.leases.give_back(lease)
    assert (paused.status, paused.worker_id) == ("paused", None)
    assert bench.queue.checkpoints(project, job.id).data[0].model == name
    assert bench.queue.resume(project, job.id, actor="k").status == "queued"
    again = bench.claim()
    bench.queue.pause(project, job.id, actor="k")
    assert bench.leases.snapshot(again, "run-3", Snapshot(1, "b", "models/3-step-1")) == name
    assert bench.leases.sweep(dead=["w1"]) == 1
    assert bench.now(job).status == "paused"


def test_a_job_that_is_done_before_it_could_pause_has_succeeded(bench: Bench) -> None:
    job = bench.queued()
    lease = bench.claim()
    bench.queue.pause(bench.who.project_id, job.id, actor="k")
    assert bench.leases.succeed(lease, outcome()).status == "succeeded"


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_what_a_finished_job_cannot_do(bench: Bench, action: str) -> None:
    job = bench.queued()
    bench.leases.succeed(bench.claim(), outcome())
    before = bench.story(job)
    with pytest.raises(IllegalMoveError, match="succeeded"):
        getattr(bench.queue, action)(bench.who.project_id, job.id, actor="k")
    assert bench.story(job) == before


def test_what_goes_wrong_is_tried_again_and_then_fails(bench: Bench) -> None:
    job = bench.queued()
    pauses = []
    for _ in range(RETRIES - 1):
        assert bench.leases.retry(bench.claim(), Failure("server_error", "no memory")).status == "queued"
        pauses.append(bench.now(job).queued_at or 0)
        assert bench.leases.claim("w", "train") is None
        bench.clock.at = pauses[-1]
    assert all(b > a for a, b in pairwise(pauses))
    failed = bench.leases.retry(bench.claim(), Failure("server_error", "no memory"))
    assert (failed.status, failed.error) == ("failed", Failure("server_error", "no memory"))


def test_progress_gives_all_tries_back(bench: Bench) -> None:
    bench.queued()
    for number in range(1, 2 * RETRIES):
        lease = bench.claim()
        bench.leases.progress(lease, [step(number)], 99)
        assert bench.leases.retry(lease, WRONG).status == "queued"
        bench.clock.wait(10_000)
    job = submit(bench.queue, bench.who)
    for _ in range(RETRIES - 1):
        assert bench.leases.retry(bench.claim("validate"), WRONG).status == "validating_files"
        assert bench.leases.claim("w", "validate") is None
        bench.clock.wait(10_000)
    assert bench.leases.retry(bench.claim("validate"), WRONG).status == "failed"
    assert bench.now(job).error == WRONG


def test_higher_priorities_first_then_keys_in_turn(bench: Bench) -> None:
    a, b, c = (identity(bench.store) for _ in range(3))
    jobs = {bench.queued(who).id: who.key_id for who in (a, a, a, a, b, b, c)}
    urgent = bench.queued(a, priority=5)
    order = []
    for _ in range(8):
        lease = bench.claim()
        bench.clock.wait(1)
        order.append(lease.job_id)
        bench.leases.succeed(lease, outcome())
    assert order[0] == urgent.id
    served = [jobs[id] for id in order[1:]]
    assert sorted(served[:3]) == sorted([a.key_id, b.key_id, c.key_id])
    assert sorted(served[3:5]) == sorted([a.key_id, b.key_id])
    mine = [id for id in order[1:] if jobs[id] == a.key_id]
    assert mine == [id for id, key in jobs.items() if key == a.key_id]


def test_a_key_with_running_jobs_waits_for_one_that_has_none(bench: Bench) -> None:
    a, b = identity(bench.store), identity(bench.store)
    for who in (a, a, b):
        bench.queued(who)
    bench.clock.wait(1)
    first, second = bench.claim(), bench.claim()
    assert {bench.now(x).key_id for x in (first, second)} == {a.key_id, b.key_id}


def test_limits_of_a_key(bench: Bench) -> None:
    limited = identity(bench.store, max_running=1, max_queued=2)
    one = bench.queued(limited, max_queued=2)
    submit(bench.queue, limited, max_queued=2)
    with pytest.raises(TooManyJobsError, match="2 unfinished"):
        submit(bench.queue, limited, max_queued=2)
    bench.leases.accept(bench.claim("validate"), {})
    lease = bench.claim()
    assert lease.job_id == one.id
    assert bench.leases.claim("w", "train") is None
    bench.leases.succeed(lease, outcome())
    submit(bench.queue, limited, max_queued=2)
    assert bench.claim().job_id != one.id


def test_priority_can_be_changed(bench: Bench) -> None:
    first, second = bench.queued(), bench.queued()
    assert bench.queue.prioritise(bench.who.project_id, second.id, 1, actor="k").priority == 1
    assert bench.claim().job_id == second.id
    assert bench.claim().job_id == first.id


def _six_at_once(work: Callable[[str], None]) -> None:
    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_many_claim_at_once_and_each_job_is_had_once(bench: Bench) -> None:
    jobs = {bench.queued().id for _ in range(12)}
    had: list[str] = []

    def work(name: str) -> None:
        while claimed := bench.leases.claim(name, "train"):
            had.append(claimed[0].job_id)

    _six_at_once(work)
    assert sorted(had) == sorted(jobs)
    assert audit.verify(bench.store).bad is None


def test_a_limit_holds_when_many_claim_at_once(bench: Bench) -> None:
    limited = identity(bench.store, max_running=2)
    for _ in range(6):
        bench.queued(limited)
    had: list[str] = []

    def work(name: str) -> None:
        if claimed := bench.leases.claim(name, "train"):
            had.append(claimed[0].job_id)

    _six_at_once(work)
    assert len(had) == 2


def test_workers_are_known_and_the_dead_of_this_machine_are_told(bench: Bench) -> None:
    known = Workers(bench.store)
    mine, gone = known.register(), known.register()
    with bench.store.writing() as connection:
        connection.execute(workers.update().where(workers.c.id == gone).values(pid_started=1.0))
        connection.execute(
            workers.insert().values(
                id="far", host="elsewhere", boot="b", pid=1, pid_started=1.0, started_at=1.0, seen_at=bench.clock.at
            )
        )
    assert {w.id: w.alive for w in known.known()} == {mine: True, gone: False, "far": True}
    assert known.dead_here() == [gone]
    bench.clock.wait(16)
    assert not next(w for w in known.known() if w.id == "far").alive
    known.seen(mine)
    known.leave(mine)
    assert mine not in [w.id for w in known.known()]
