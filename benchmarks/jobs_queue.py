"""The queue with many jobs in it: how long a claim and a page of the list take.

    python benchmarks/jobs_queue.py [--jobs 10000] [--keys 20] [--claims 1000] [--lists 1000] [--workers 1] [--url URL]
                                    [--out FILE]

A claim is what a worker does when it takes a job: one durable transaction, audit entry included. A list is a page of
20 jobs as the API reads it, at random places. With --workers N so many processes claim at once, as in service. Run it
while nothing else does; the figures go to `benchmarks/results/` with the machine they were measured on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import written

from tunesmith.governance import audit
from tunesmith.governance.keys import Identity, Keys
from tunesmith.jobs.leases import Leases
from tunesmith.jobs.model import NewJob
from tunesmith.jobs.queue import Queue
from tunesmith.store.database import Store


def fill(store: Store, keys: int, jobs: int) -> list[Identity]:
    """Queued jobs of several keys: submitted and accepted through the queue's own calls."""
    owners = Keys(store)
    owners.add_project("proj_default", "default", "bench", exist_ok=True)
    who = [owners.authenticate(owners.create(name=f"key {i}")[0]) for i in range(keys)]
    queue, leases = Queue(store), Leases(store)
    method = {"type": "supervised", "hyperparameters": {"n_epochs": "auto"}}
    for i in range(jobs):
        one = who[i % keys]
        asked = NewJob(
            one.project_id, one.key_id, one.organization, "bundled/tunesmith-8m", "bundled/tunesmith-8m", "file-x",
            method, seed=i, metadata={"batch": str(i % 7)},
        )  # fmt: skip
        queue.submit(asked)
        claimed = leases.claim("filler", "validate")
        if claimed:
            leases.accept(claimed[0], {"n_epochs": 3})
    return who


def claim(url: str | None, folder: str, count: int, results: Any) -> None:
    """Take jobs one after the other; the seconds of each go to `results`."""
    store = Store.open(url, Path(folder))
    leases, taken = Leases(store, audit.record), []
    for _ in range(count):
        start = time.perf_counter()
        claimed = leases.claim("bench", "train")
        taken.append(time.perf_counter() - start)
        if claimed is None:
            break
    results.put(taken)


def pages(store: Store, count: int) -> list[float]:
    """Pages of the list at random places, a third of them filtered by metadata or status."""
    queue, draw, taken = Queue(store), random.Random(1), []  # noqa: S311
    ids = [job.id for job in queue.list("proj_default", limit=10_000).data]
    filters: list[dict[str, Any]] = [{}, {}, {}, {"metadata": {"batch": "3"}}, {"status": "queued"}]
    for i in range(count):
        start = time.perf_counter()
        queue.list("proj_default", after=draw.choice(ids), **filters[i % len(filters)])
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Fill, claim, list, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("jobs", 10_000), ("keys", 20), ("claims", 1000), ("lists", 1000), ("workers", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--url", help="another database than SQLite in a new folder")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(asked.url, Path(folder))
        start = time.perf_counter()
        fill(store, asked.keys, asked.jobs)
        filled = time.perf_counter() - start
        listed = pages(store, asked.lists)
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        share = asked.claims // asked.workers
        processes = [
            context.Process(target=claim, args=(asked.url, folder, share, results)) for _ in range(asked.workers)
        ]
        for process in processes:
            process.start()
        claims = [seconds for _ in processes for seconds in results.get()]
        for process in processes:
            process.join()
        figures = {
            "jobs": asked.jobs, "keys": asked.keys, "workers": asked.workers, "database": store.engine.dialect.name,
            "submit_and_accept_ms": round(1000 * filled / asked.jobs, 2), "claim_ms": written.told(claims),
            "list_ms": written.told(listed),
        }  # fmt: skip
        store.close()
    written.write(figures, asked.out)


if __name__ == "__main__":
    main()
