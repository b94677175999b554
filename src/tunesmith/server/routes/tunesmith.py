"""What the hosted API has no shape for: reports, evaluations, comparisons, exports. Never inside its shapes."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query
from starlette.responses import Response, StreamingResponse

from ...core.errors import TunesmithError
from ...governance import audit
from ...governance.keys import Identity
from ...jobs.model import Job, NoJobError
from ...pipelines.runs import side_by_side
from ..access import Caller, Serving
from ..errors import ApiError, invalid, no_such_job, no_such_model
from ..idempotency import Sealing
from ..protocol.common import Ask, Id, Name, Reply
from ..protocol.files import File
from ..records.files import NoRoomError, Stored
from ..records.models import NoModelError, Served
from ..routing import Routes
from ..services import SCRATCH, Services
from . import files

routes = Routes(prefix="/v1/tunesmith", tags=["tunesmith"])

_LINES = "application/x-ndjson"
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A report shows texts of models and of data: nothing in it may run or load."""
_EXPORT_SECONDS = 540
"""The official client waits for 600."""


class Evaluation(Reply):
    """How a job's model compares with its base, and what its gate said."""

    job_id: str
    verdict: dict[str, Any] | None
    evaluation: dict[str, Any]


class Comparison(Reply):
    """Two jobs' runs side by side."""

    jobs: list[str]
    same_test_rows: bool
    metrics: list[dict[str, Any]]
    facts: list[dict[str, Any]]
    recipe: list[dict[str, Any]]


class ExportRequest(Ask):
    """A tuned model to take along."""

    model: Name
    to: Literal["weights", "merged"] = "weights"
    """`weights`: the adapter (or whole model) as it was trained; `merged`: one plain model folder."""


class Export(Reply):
    """A tar of a model's folder, to be fetched like any file."""

    object: Literal["export"] = "export"
    model: str
    to: str
    file: File


@routes.get(
    "/jobs/{job_id}/report", scope="read", errors=(404,), response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)  # fmt: skip
def report(job_id: Id, who: Caller, services: Serving) -> Response:
    """The run's page. It quotes rows of the data, so the read is noted in the audit log."""
    content = _file(services, who, job_id, "report.html").read_bytes()
    return Response(content, media_type="text/html", headers={"content-security-policy": _SANDBOX})


@routes.get("/jobs/{job_id}/evaluation", scope="read", errors=(404,))
def evaluation(job_id: Id, who: Caller, services: Serving) -> Evaluation:
    """Base and tuned model on the same held-out rows, with intervals; and the gate's verdict."""
    found = _job(services, who, job_id)
    return Evaluation(job_id=job_id, verdict=found.verdict, evaluation=_json(services, found, "evaluation.json"))


@routes.get("/jobs/{job_id}/data-audit", scope="read", errors=(404,))
def data_audit(job_id: Id, who: Caller, services: Serving) -> dict[str, Any]:
    """What was found in the training data."""
    return _json(services, _job(services, who, job_id), "data-audit.json")


@routes.get(
    "/jobs/{job_id}/predictions", scope="read", errors=(404,), response_class=Response,
    responses={200: {"content": {_LINES: {"schema": {"type": "string"}}}}},
)  # fmt: skip
def predictions(job_id: Id, who: Caller, services: Serving) -> Response:
    """Both models' answers to each held-out row, one JSON object a line; the read is noted in the audit log."""
    handle = _file(services, who, job_id, "predictions.jsonl").open("rb")
    return StreamingResponse(files.pieces(handle), media_type=_LINES)


@routes.get("/comparisons", scope="read", errors=(404,))
def compare(
    who: Caller, services: Serving, job: Annotated[str, Query(max_length=256)],
    other: Annotated[str, Query(max_length=256)],
) -> Comparison:  # fmt: skip
    """Two jobs' models, facts and recipes side by side; their figures compare on the same test rows only."""
    runs = [_run(services, _job(services, who, id)) for id in (job, other)]
    try:
        facts = side_by_side(*runs)
    except TunesmithError as error:
        raise invalid(f"These jobs cannot be compared: {error.what}.", "other", "not_comparable") from error
    return Comparison(
        jobs=[job, other], same_test_rows=facts["same_test_rows"], metrics=facts["metrics"], facts=facts["facts"],
        recipe=facts["recipe"],
    )  # fmt: skip


@routes.post("/exports", scope="train", errors=(404,))
def export(body: ExportRequest, who: Caller, services: Serving, seal: Sealing) -> Export:
    """A tuned model of the project as a file: a tar of its folder. Merging takes as long as loading the base does."""
    try:
        model = services.models.resolve(who.project_id, body.model)
    except NoModelError as error:
        raise no_such_model(body.model) from error
    if model.run is None or model.weights is None or model.project_id != who.project_id:
        raise invalid("Only a tuned model of this project can be exported.", "model", "model_not_exportable")
    with tempfile.TemporaryDirectory(dir=services.settings.home, prefix=SCRATCH) as scratch:
        folder = model.weights if body.to == "weights" else _merged(model, Path(scratch) / "model")
        archive = Path(scratch) / "model.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, arcname=".")
        with archive.open("rb") as file:
            blob = services.store.blobs.put(file)
    most = services.settings.limits.project_bytes

    def told(made: Stored) -> Export:
        return Export(model=body.model, to=body.to, file=files.wire(made, services))

    try:
        return told(
            services.files.add(
                who, blob, filename=f"{body.to}.tar", purpose="export", most=most,
                also=lambda connection, made: seal(connection, told(made)),
            )
        )  # fmt: skip
    except BaseException as error:
        services.store.blobs.delete(blob.name)
        if isinstance(error, NoRoomError):
            raise files.no_room(most) from error
        raise


def _job(services: Services, who: Identity, job_id: str) -> Job:
    try:
        return services.queue.get(who.project_id, job_id)
    except NoJobError as error:
        raise no_such_job(job_id) from error


def _run(services: Services, job: Job) -> Path:
    """The run's folder: the newest claim's. ApiError 404 before there is one."""
    runs = (services.store.jobs_folder / job.id).glob("run-*")
    found = max((path for path in runs if path.name[4:].isdigit()), key=lambda path: int(path.name[4:]), default=None)
    if found is None:
        raise ApiError(404, f"Job {job.id} has not begun.", param="job_id", code="not_there_yet")
    return found


def _file(services: Services, who: Identity, job_id: str, name: str) -> Path:
    """A file of a run that quotes the data. ApiError 404."""
    path = _run(services, _job(services, who, job_id)) / name
    if not path.is_file():
        raise ApiError(404, f"Job {job_id} has no {name} yet.", param="job_id", code="not_there_yet")
    audit.append(
        services.store, actor=f"key:{who.key_id}", project_id=who.project_id, action=f"{path.stem}.read", target=job_id
    )
    return path


def _json(services: Services, job: Job, name: str) -> dict[str, Any]:
    path = _run(services, job) / name
    if not path.is_file():
        raise ApiError(404, f"Job {job.id} has no {name} yet.", param="job_id", code="not_there_yet")
    content: dict[str, Any] = orjson.loads(path.read_bytes())
    return content


def _merged(model: Served, out: Path) -> Path:
    """The merged model in a folder, made by a process of its own, so that the server loads no second base."""
    if ":ckpt-step-" in model.name:
        raise invalid("A checkpoint can be exported as weights only.", "to", "checkpoint_not_mergeable")
    command = [sys.executable, "-m", "tunesmith", "export", str(model.run), "--to", "merged", "--out", str(out)]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            command, capture_output=True, text=True, timeout=_EXPORT_SECONDS, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ApiError(503, "Merging took too long.", code="export_timed_out") from error
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if line.startswith("error:")), "error: see the log")
        raise invalid(f"The model cannot be merged: {why.removeprefix('error: ')}.", "to", "not_mergeable")
    return out
