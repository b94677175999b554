"""The whole way over: fetch, plan, ask the old models, and what comes after. Loads no torch: `again` does, and is
handed in where jobs are to be trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core import files
from ...core.errors import MissingError, TunesmithError, UsageError
from . import answers
from .aliases import Bases
from .fetch import fetch
from .folder import Folder, safe
from .prompts import Asked, distinct, read_prompts
from .recipes import Plan, hyperparameters, method, plan
from .service import Login, Service, service_url

if TYPE_CHECKING:
    from ...report.agreement import Job

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What the user asks for. `rate` is requests a second, `rows` the most prompts of a job."""

    out: Path
    bases: Bases
    jobs: Sequence[str] = ()
    prompts: Path | None = None
    rows: int = 100
    max_tokens: int = 512
    ask: bool = True
    """Whether the old models are asked at all."""
    settings: Sequence[str] = ()
    """`--set` of the recipes that are run."""
    offline: bool = False
    rate: float = 5.0


@dataclass(frozen=True)
class Again:
    """A job trained again, and how that ended. `status` is finished or failed; `agreement` is with the old model."""

    job: str
    run: Path
    status: str
    verdict: str | None = None
    error: str | None = None
    agreement: Job | None = None


Retrain = Callable[[Folder, Sequence[Plan], Mapping[str, Sequence[Asked]], Wanted, Say], list[Again]]
"""Trains jobs again and compares: `again.retrain`."""


def migrate(
    wanted: Wanted, environment: Mapping[str, str], *, say: Say, retrain: Retrain | None = None
) -> dict[str, Any]:
    """All that is wanted; what came of it, for people and as JSON. Nothing is connected to when `offline`.

    TunesmithErrors of every kind; whatever ends it, the same call again goes on where it was.
    """
    if wanted.offline and not (wanted.out / "migration.json").is_file():
        raise MissingError(
            f"nothing was fetched into {wanted.out}", mend="run the same command without --offline first"
        )
    login = None if wanted.offline else Login.read(environment)
    asked = read_prompts(wanted.prompts, wanted.rows) if wanted.prompts else None
    with (
        Folder.open(wanted.out, None if wanted.offline else service_url(environment)) as folder,
        Service(login, rate=wanted.rate) if login else nullcontext() as service,
    ):
        if service:
            fetch(service, folder, wanted.jobs, say)
        plans = _plans(folder, wanted)
        prompts = {one.id: distinct(asked if asked is not None else _held_out(one, wanted.rows)) for one in plans}
        _write_jobs(folder, plans)
        if service and wanted.ask:
            _ask(service, folder, plans, prompts, wanted, say)
            _write_jobs(folder, plans)
        folder.sums()
        again = retrain(folder, plans, prompts, wanted, say) if retrain else []
        return _told(folder, plans, again, dict(service.asked) if service else {})


def _plans(folder: Folder, wanted: Wanted) -> list[Plan]:
    """The jobs that are there and wanted, the oldest first."""
    plans = []
    for file in (folder.path / "jobs").glob("*.json"):
        record = folder.read(f"jobs/{file.name}")
        if record and (not wanted.jobs or record["job"]["id"] in wanted.jobs):
            plans.append(plan(folder, record, wanted.bases))
    absent = set(wanted.jobs) - {one.id for one in plans}
    if absent:
        raise UsageError(f"job '{min(absent)}' was not fetched", mend="run without --offline, or name another --job")
    return _in_order(plans)


def _in_order(plans: Sequence[Plan]) -> list[Plan]:
    return sorted(plans, key=lambda one: (one.job.get("created_at") or 0, one.id))


def _held_out(one: Plan, most: int) -> list[Asked]:
    if one.held_out is None:
        return []
    try:
        return read_prompts(one.held_out, most, named=one.held_out_name)
    except TunesmithError as error:
        one.notes.append(f"the held-out rows cannot be asked: {error.what}")
        return []


def _ask(
    service: Service, folder: Folder, plans: Sequence[Plan], prompts: Mapping[str, Sequence[Asked]], wanted: Wanted,
    say: Say,
) -> None:  # fmt: skip
    count = answers.left(plans, prompts, folder, wanted.max_tokens)
    if not count:
        return
    say(
        f"{count:,} questions go to the old tuned models (POST /chat/completions), billed there like any request; "
        "--no-answers leaves them out"
    )
    answers.record(service, folder, plans, prompts, max_tokens=wanted.max_tokens, say=say)


def _write_jobs(folder: Folder, plans: Sequence[Plan]) -> None:
    """`jobs.json`: these jobs, and those that an earlier call with other --job wrote. One a line, one in memory."""
    mine = {one.id: one for one in plans}
    earlier = (folder.read("jobs.json") or {"jobs": []})["jobs"]
    others = {one["id"]: one for one in earlier if one["id"] not in mine}
    everything = _in_order([*plans, *(Plan(id, entry["job"]) for id, entry in others.items())])

    def pieces() -> Iterator[bytes]:
        for number, one in enumerate(everything):
            entry = _entry(folder, one) if one.id in mine else others[one.id]
            yield (b",\n" if number else b'{"jobs": [\n') + json.dumps(entry, ensure_ascii=False).encode()
        yield b"\n]}\n" if everything else b'{"jobs": []}\n'

    files.write_pieces(folder.path / "jobs.json", pieces())


def _entry(folder: Folder, one: Plan) -> dict[str, Any]:
    job = one.job
    record = folder.read(f"jobs/{safe(one.id)}.json") or {}
    ids = [("files", job.get("training_file")), ("files", job.get("validation_file"))]
    ids += [("results", id) for id in job.get("result_files") or ()]
    records = {str(id): folder.read(f"{kind}/{safe(str(id))}.json") for kind, id in ids if id}
    return {
        "id": one.id, "model": job.get("model"), "fine_tuned_model": one.model, "status": job.get("status"),
        "method": method(job), "hyperparameters": hyperparameters(job), "seed": job.get("seed"),
        "files": {id: record for id, record in records.items() if record},
        "recipe": str(one.recipe.relative_to(folder.path)) if one.recipe else None, "base": one.base,
        "held_out": one.held_out_name or None, "notes": one.notes,
        "job": job, "events": record.get("events", []), "checkpoints": record.get("checkpoints", []),
    }  # fmt: skip


def _told(
    folder: Folder, plans: Sequence[Plan], again: Sequence[Again], asked: Mapping[str, int]
) -> dict[str, Any]:  # fmt: skip
    runs = {one.job: one for one in again}
    counts: dict[str, int] = {}
    for row in folder.lines(answers.FILE):
        counts[row["job"]] = counts.get(row["job"], 0) + ("error" not in row)
    return {
        "out": str(folder.path), "service": folder.state().get("service"), "requests": asked,
        "jobs": [
            {
                "id": one.id, "model": one.job.get("model"), "fine_tuned_model": one.model,
                "status": one.job.get("status"), "method": method(one.job), "answers": counts.get(one.id, 0),
                "recipe": str(one.recipe) if one.recipe else None, "base": one.base, "notes": one.notes,
                "run": _run_facts(runs.get(one.id)),
            }
            for one in plans
        ],
    }  # fmt: skip


def _run_facts(one: Again | None) -> dict[str, Any] | None:
    """How a job's training ended, and how far the two models agree; the rows stand in `agreement.json`."""
    if one is None:
        return None
    agreed = asdict(one.agreement) if one.agreement else None
    shares = {key: agreed[key] for key in ("equal", "similarity", "old_right", "new_right")} if agreed else None
    return {"path": str(one.run), "status": one.status, "verdict": one.verdict, "error": one.error, "agreement": shares}
