"""The whole way over: fetch, plan, ask the old models, train again, compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core import clock, files
from ...core.errors import ContentError, MissingError, TunesmithError, UsageError
from ...core.events import Sink
from ...report.agreement import Job, page
from . import answers
from .again import Again, new_answers, train
from .agreement import agreement
from .aliases import Bases
from .fetch import fetch
from .folder import Folder, safe
from .prompts import Asked, distinct, read_prompts
from .recipes import Plan, hyperparameters, method, plan
from .service import Login, Service, service_url

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
    run: bool = False
    settings: Sequence[str] = ()
    offline: bool = False
    rate: float = 5.0


def migrate(wanted: Wanted, environment: Mapping[str, str], *, say: Say, sink: Sink) -> dict[str, Any]:
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
        plans = [plan(folder, record, wanted.bases) for record in _records(folder, wanted.jobs)]
        prompts = {one.id: distinct(asked if asked is not None else _held_out(one, wanted.rows)) for one in plans}
        _write_jobs(folder, plans)
        if service and wanted.ask:
            _ask(service, folder, plans, prompts, wanted, say)
            _write_jobs(folder, plans)
        folder.sums()
        again = _run(folder, plans, wanted, say, sink) if wanted.run else []
        jobs = _compare(folder, plans, again, prompts, wanted, say)
        return _told(folder, plans, again, jobs, dict(service.asked) if service else {})


def _records(folder: Folder, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """The jobs that are there, the oldest first."""
    found = [folder.read(f"jobs/{file.name}") for file in sorted((folder.path / "jobs").glob("*.json"))]
    records = [one for one in found if one and (not wanted or one["job"]["id"] in wanted)]
    absent = set(wanted) - {one["job"]["id"] for one in records}
    if absent:
        raise UsageError(f"job '{min(absent)}' was not fetched", mend="run without --offline, or name another --job")
    return sorted(records, key=lambda one: (one["job"].get("created_at") or 0, one["job"]["id"]))


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
    """`jobs.json`."""
    files.write_pieces(folder.path / "jobs.json", _pieces([_entry(folder, one) for one in plans]))


def _pieces(entries: Sequence[dict[str, Any]]) -> list[bytes]:
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    return [b'{"jobs": [\n', ",\n".join(lines).encode(), b"\n]}\n"]


def _entry(folder: Folder, one: Plan) -> dict[str, Any]:
    job = one.job
    ids = [("files", job.get("training_file")), ("files", job.get("validation_file"))]
    ids += [("results", id) for id in job.get("result_files") or ()]
    records = {str(id): folder.read(f"{kind}/{safe(str(id))}.json") for kind, id in ids if id}
    return {
        "id": one.id, "model": job.get("model"), "fine_tuned_model": one.model, "status": job.get("status"),
        "method": method(job), "hyperparameters": hyperparameters(job), "seed": job.get("seed"),
        "files": {id: record for id, record in records.items() if record},
        "recipe": str(one.recipe.relative_to(folder.path)) if one.recipe else None, "base": one.base,
        "held_out": one.held_out_name or None, "notes": one.notes,
        "job": job, "events": one.record["events"], "checkpoints": one.record["checkpoints"],
    }  # fmt: skip


def _run(folder: Folder, plans: Sequence[Plan], wanted: Wanted, say: Say, sink: Sink) -> list[Again]:
    """Each job that made a model, trained again, one after the other."""
    done = []
    for one in plans:
        if one.recipe is None:
            continue
        if one.model is None:
            one.notes.append("not trained again: the old job made no model")
            continue
        say(f"training {one.id} again: {one.recipe} on {one.base}")
        ended = train(folder, one, one.recipe, wanted.settings, sink)
        if ended.error:
            say(f"  {one.id}: {ended.error}")
        done.append(ended)
    return done


def _compare(
    folder: Folder, plans: Sequence[Plan], again: Sequence[Again], prompts: Mapping[str, Sequence[Asked]],
    wanted: Wanted, say: Say,
) -> list[Job]:  # fmt: skip
    """`agreement.json` and `agreement.html` of the jobs that were trained again; neither where there is none."""
    old, jobs = answers.recorded(folder), []
    by_id = {one.id: one for one in plans}
    for ended in again:
        one = by_id[ended.job]
        keys = [asked.key(str(one.model), wanted.max_tokens) for asked in prompts[one.id]]
        known = {key: asked for key, asked in zip(keys, prompts[one.id], strict=True) if key in old}
        if ended.status != "finished" or not known:
            continue
        say(f"comparing {one.id}: {len(known)} answers")
        try:
            new = new_answers(ended.run, known, wanted.max_tokens)
        except (ContentError, MissingError) as error:
            one.notes.append(f"not compared: {error.what}")
            continue
        asked_from = wanted.prompts.name if wanted.prompts else one.held_out_name
        run, verdict = str(ended.run.relative_to(folder.path)), ended.verdict or ""
        found = agreement(
            one, run, verdict, asked_from, prompts[one.id], old, new, keys,
            learned_before=one.learned_before and not wanted.prompts,
        )  # fmt: skip
        jobs += [found] if found else []
    if jobs:
        service, made = folder.state().get("service", ""), clock.now()
        folder.write("agreement.json", {"service": service, "made": made, "jobs": [asdict(job) for job in jobs]})
        files.write_text(folder.path / "agreement.html", page(jobs, service, made))
    return jobs


def _told(
    folder: Folder, plans: Sequence[Plan], again: Sequence[Again], jobs: Sequence[Job], asked: Mapping[str, int]
) -> dict[str, Any]:  # fmt: skip
    runs, agreed = {one.job: one for one in again}, {one.job: one for one in jobs}
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
                "run": _run_facts(runs.get(one.id)), "agreement": _shares(agreed.get(one.id)),
            }
            for one in plans
        ],
    }  # fmt: skip


def _run_facts(one: Again | None) -> dict[str, Any] | None:
    return asdict(one) | {"run": str(one.run)} if one else None


def _shares(job: Job | None) -> dict[str, Any] | None:
    if job is None:
        return None
    return {name: value for name, value in asdict(job).items() if name not in ("rows", "job", "model", "base", "run")}
