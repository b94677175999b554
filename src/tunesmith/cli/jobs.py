"""`tunesmith jobs`: the service's queue, seen from the machine it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import out, print_json, say
from .options import Json
from .stores import Database, Storage, actor, opened, when

if TYPE_CHECKING:
    from ..jobs.model import Job
    from ..jobs.queue import Queue

app = typer.Typer(no_args_is_help=True, help="The service's fine-tuning jobs, seen from the machine it runs on.")
JobId = Annotated[str, typer.Argument(help="The job's id.", show_default=False)]
Project = Annotated[str, typer.Option("--project", help="Whose jobs.")]
_DEFAULT = "proj_default"


@app.command("list")
def show(
    project: Project = _DEFAULT,
    status: Annotated[str | None, typer.Option("--status", help="In this status alone.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    after: Annotated[str | None, typer.Option("--after", help="Behind this job.")] = None,
    database: Database = None, storage: Storage = None, json: Json = False,
) -> None:  # fmt: skip
    """Jobs, newest first, how many there are, and the workers."""
    from ..core.errors import UsageError, nearest
    from ..jobs.states import STATUSES
    from ..jobs.workers import Workers
    from . import show as tables

    known = next((name for name in STATUSES if name == status), None)
    if status is not None and known is None:
        raise UsageError(f"unknown status '{status}'", mend=nearest(status, STATUSES))
    store = opened(database, storage)
    queue = _queue(store)
    page = queue.list(project, status=known, limit=limit, after=after)
    counts, workers = queue.counts(project), Workers(store).known()
    if json:
        listed = [{"id": w.id, "host": w.process.host, "pid": w.process.pid, "alive": w.alive} for w in workers]
        print_json({"jobs": [_facts(j) for j in page.data], "has_more": page.has_more, "counts": counts,
                    "workers": listed})  # fmt: skip
        return
    rows = [
        (j.id, j.status, f"{j.step}/{j.total_steps or '?'}", str(j.priority), j.model, when(j.created_at),
         when(j.estimated_finish or j.finished_at)) for j in page.data
    ]  # fmt: skip
    tables.table("Jobs", ("job", "status", "step", "priority", "model", "created (UTC)", "ends"), rows)
    out.print(", ".join(f"{count} {name}" for name, count in counts.items()) or "no job")
    out.print(f"workers: {sum(w.alive for w in workers)} alive")


@app.command("show")
def one(
    job: JobId, project: Project = _DEFAULT, database: Database = None, storage: Storage = None, json: Json = False
) -> None:
    """A job and its story, oldest event first."""
    queue = _queue(opened(database, storage))
    found = queue.get(project, job)
    events = queue.events(project, job, limit=1000).data[::-1]
    if json:
        print_json(_facts(found) | {"events": [vars(event) for event in events]})
        return
    for name, value in _facts(found).items():
        if value not in (None, [], {}):
            out.print(f"{name}: {value}", markup=False, soft_wrap=True)
    for event in events:
        out.print(f"{when(event.created_at)}  {event.message}", markup=False, soft_wrap=True)


@app.command("cancel")
def cancel(
    job: JobId, project: Project = _DEFAULT, database: Database = None, storage: Storage = None, json: Json = False
) -> None:
    """End a job for good."""
    _tell(_queue(opened(database, storage)).cancel(project, job, actor=actor()), json)


@app.command("pause")
def pause(
    job: JobId, project: Project = _DEFAULT, database: Database = None, storage: Storage = None, json: Json = False
) -> None:
    """Stop a job after a checkpoint; `tunesmith jobs resume` goes on from there."""
    _tell(_queue(opened(database, storage)).pause(project, job, actor=actor()), json)


@app.command("resume")
def resume(
    job: JobId, project: Project = _DEFAULT, database: Database = None, storage: Storage = None, json: Json = False
) -> None:
    """Put a paused job into the queue again."""
    _tell(_queue(opened(database, storage)).resume(project, job, actor=actor()), json)


@app.command("priority")
def priority(
    job: JobId,
    value: Annotated[int, typer.Argument(help="Higher ones begin first; 0 is usual.", show_default=False)],
    project: Project = _DEFAULT, database: Database = None, storage: Storage = None, json: Json = False,
) -> None:  # fmt: skip
    """Let a job begin before others, or after them."""
    _tell(_queue(opened(database, storage)).prioritise(project, job, value, actor=actor()), json)


def _queue(store: Any) -> Queue:
    from ..governance import audit
    from ..jobs.queue import Queue

    return Queue(store, audit.record)


def _tell(job: Job, json: bool) -> None:
    if json:
        print_json(_facts(job))
    else:
        say(f"{job.id}: {job.status}")


def _facts(job: Job) -> dict[str, Any]:
    error = vars(job.error) if job.error else None
    return vars(job) | {"error": error, "result_files": list(job.result_files)}
