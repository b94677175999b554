"""Fine-tuning jobs: created, listed, followed, stopped, and who may use their checkpoints.

What training data hold is judged after a job was created, never before: clients try again for ever on a 400.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any

from fastapi import Query, Request

from ...core.errors import MissingError
from ...governance.keys import Identity
from ...jobs.model import Job as Kept
from ...jobs.model import NewJob, NoJobError, TooManyJobsError
from ...jobs.states import IllegalMoveError
from ..access import Caller, Serving
from ..errors import ApiError, invalid, no_such_file, no_such_job, no_such_model
from ..idempotency import Sealing
from ..protocol import jobs as wire
from ..protocol.common import PAGE, After, Deleted, EndedPage, Id, Page, ended
from ..records.files import NoFileError
from ..records.models import Grant, NoModelError
from ..routing import Routes
from ..services import Services

routes = Routes(prefix="/v1/fine_tuning", tags=["fine-tuning"])

Limit = Annotated[int, Query(ge=1, le=PAGE)]
_FILTER: dict[str, Any] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "description": "Only jobs with these pairs: `metadata[key]=value`; `metadata=null`: only jobs with none.",
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}


@routes.post("/jobs", scope="train", errors=(404,))
def create(body: wire.JobRequest, who: Caller, services: Serving, seal: Sealing) -> wire.Job:
    """Put a job into the queue. Its files are validated next; a wrong one makes the job fail, not this call."""
    method = _method(body)
    new = NewJob(
        project_id=who.project_id, key_id=who.key_id, organization=who.organization, model=body.model,
        base=_base(services, who, body.model), training_file=_file(services, who, body.training_file, "training_file"),
        validation_file=_file(services, who, body.validation_file, "validation_file") if body.validation_file else None,
        method=method, seed=secrets.randbelow(2**31) if body.seed is None else body.seed, suffix=_suffix(body.suffix),
        integrations=[i.model_dump() for i in body.integrations] if body.integrations else None,
        metadata=body.metadata, max_queued=_most(services, who),
    )  # fmt: skip
    try:
        return job(services.queue.submit(new, lambda connection, made: seal(connection, job(made))))
    except TooManyJobsError as error:
        raise ApiError(
            429, f"{error.what[0].upper()}{error.what[1:]}.", code="too_many_jobs", headers={"retry-after": "30"}
        ) from error


@routes.get("/jobs", scope="read", openapi_extra=_FILTER)
def list_jobs(
    request: Request, who: Caller, services: Serving, after: After = None, limit: Limit = 20
) -> EndedPage[wire.Job]:
    """The project's jobs, newest first."""
    wanted = {}
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata[") and name.endswith("]"):
            wanted[name[len("metadata[") : -1]] = value
    without = request.query_params.get("metadata") == "null"
    page = services.queue.list(
        who.project_id, after=after, limit=limit, metadata=wanted or None, without_metadata=without
    )
    return ended([job(kept) for kept in page.data], [kept.id for kept in page.data], page.has_more)


@routes.get("/jobs/{job_id}", scope="read", errors=(404,))
def retrieve(job_id: Id, who: Caller, services: Serving) -> wire.Job:
    """A job as it stands."""
    try:
        return job(services.queue.get(who.project_id, job_id))
    except NoJobError as error:
        raise no_such_job(job_id) from error


@routes.post("/jobs/{job_id}/cancel", scope="train", errors=(404,))
def cancel(job_id: Id, who: Caller, services: Serving) -> wire.Job:
    """End a job."""
    return _moved(services, who, job_id, "cancel")


@routes.post("/jobs/{job_id}/pause", scope="train", errors=(404,))
def pause(job_id: Id, who: Caller, services: Serving) -> wire.Job:
    """Stop a job after a checkpoint, to go on later."""
    return _moved(services, who, job_id, "pause")


@routes.post("/jobs/{job_id}/resume", scope="train", errors=(404,))
def resume(job_id: Id, who: Caller, services: Serving) -> wire.Job:
    """Go on with a paused job."""
    return _moved(services, who, job_id, "resume")


@routes.get("/jobs/{job_id}/events", scope="read", errors=(404,))
def events(job_id: Id, who: Caller, services: Serving, after: After = None, limit: Limit = 20) -> Page[wire.Event]:
    """A job's story, newest first."""
    try:
        page = services.queue.events(who.project_id, job_id, after=after, limit=limit)
    except NoJobError as error:
        raise no_such_job(job_id) from error
    told = [
        wire.Event(
            id=event.id, created_at=int(event.created_at), level=event.level, message=event.message, type=event.type,
            data=event.data,
        )
        for event in page.data
    ]  # fmt: skip
    return Page[wire.Event](data=told, has_more=page.has_more)


@routes.get("/jobs/{job_id}/checkpoints", scope="read", errors=(404,))
def checkpoints(
    job_id: Id, who: Caller, services: Serving, after: After = None, limit: Limit = 10
) -> EndedPage[wire.Checkpoint]:
    """A job's checkpoints that can be asked as models, newest first."""
    try:
        page = services.queue.checkpoints(who.project_id, job_id, after=after, limit=limit)
    except NoJobError as error:
        raise no_such_job(job_id) from error
    told = [
        wire.Checkpoint(
            id=kept.id, created_at=int(kept.created_at), fine_tuning_job_id=job_id,
            fine_tuned_model_checkpoint=kept.model, step_number=kept.step_number, metrics=kept.metrics,
        )
        for kept in page.data
    ]  # fmt: skip
    return ended(told, [kept.id for kept in told], page.has_more)


@routes.get("/checkpoints/{checkpoint:path}/permissions", scope="admin", errors=(404,))
def permissions(
    checkpoint: Id, who: Caller, services: Serving, after: After = None, limit: Limit = 10,
    order: Annotated[str, Query(pattern="^(ascending|descending)$")] = "descending",
    project_id: Annotated[str | None, Query(max_length=64)] = None,
) -> EndedPage[wire.Permission]:  # fmt: skip
    """Which other projects may ask a checkpoint of this one."""
    try:
        found, more = services.models.grants(
            who.project_id, checkpoint, after=after, limit=limit, newest_first=order == "descending", of=project_id
        )
    except NoModelError as error:
        raise no_such_model(checkpoint) from error
    return ended([_permission(grant) for grant in found], [grant.id for grant in found], more)


@routes.post("/checkpoints/{checkpoint:path}/permissions", scope="admin", errors=(404,))
def grant(checkpoint: Id, body: wire.PermissionRequest, who: Caller, services: Serving) -> EndedPage[wire.Permission]:
    """Let other projects ask a checkpoint of this one."""
    try:
        made = services.models.grant(who, checkpoint, list(body.project_ids))
    except NoModelError as error:
        raise no_such_model(checkpoint) from error
    except MissingError as error:
        raise invalid(f"{error.what[0].upper()}{error.what[1:]}.", "project_ids", "project_not_found") from error
    return ended([_permission(one) for one in made], [one.id for one in made], False)


@routes.delete("/checkpoints/{checkpoint:path}/permissions/{permission_id}", scope="admin", errors=(404,))
def revoke(checkpoint: Id, permission_id: Id, who: Caller, services: Serving) -> Deleted:
    """Take such a right back."""
    try:
        services.models.revoke(who, checkpoint, permission_id)
    except NoModelError as error:
        raise no_such_model(checkpoint) from error
    except MissingError as error:
        raise ApiError(404, f"No such permission: {permission_id}", param="permission_id") from error
    return Deleted(id=permission_id, object="checkpoint.permission")


def job(kept: Kept) -> wire.Job:
    """A job as clients read it; "auto" stands where nothing is resolved yet."""
    kind = kept.method["type"]
    values = kept.hyperparameters or kept.method.get("hyperparameters") or {}
    method = wire.JobMethod(type=kind, **{kind: {"hyperparameters": values}})
    failure = kept.error
    error = wire.JobError(code=failure.code, message=failure.message, param=failure.param) if failure else None
    return wire.Job(
        id=kept.id, created_at=int(kept.created_at), finished_at=_whole(kept.finished_at), model=kept.model,
        fine_tuned_model=kept.fine_tuned_model, organization_id=f"org-{kept.organization}", status=kept.status,
        training_file=kept.training_file, validation_file=kept.validation_file, result_files=list(kept.result_files),
        trained_tokens=kept.trained_tokens, hyperparameters=values if kind == "supervised" else {}, error=error,
        seed=kept.seed, estimated_finish=_whole(kept.estimated_finish), integrations=kept.integrations, method=method,
        metadata=kept.metadata, user_provided_suffix=kept.suffix,
    )  # fmt: skip


def _whole(time: float | None) -> int | None:
    return None if time is None else int(time)


def _method(body: wire.JobRequest) -> dict[str, Any]:
    """{"type", "hyperparameters"}: those of the method, and where it is silent the deprecated ones beside it."""
    older = body.hyperparameters.model_dump(exclude_unset=True) if body.hyperparameters else {}
    if body.method is None:
        return {"type": "supervised", "hyperparameters": wire.Hyperparameters(**older).model_dump()}
    if body.method.type == "reinforcement":
        raise invalid(
            f"Fine-tuning method 'reinforcement' is not available for model {body.model}.", "method.type",
            "method_not_available",
        )  # fmt: skip
    kind = body.method.type
    own = body.method.supervised if kind == "supervised" else body.method.dpo
    given = own.hyperparameters.model_dump(exclude_unset=True) if own and own.hyperparameters else {}
    shape = wire.Hyperparameters if kind == "supervised" else wire.DpoHyperparameters
    return {"type": kind, "hyperparameters": shape(**older | given).model_dump()}


def _suffix(given: str | None) -> str | None:
    """As it stands in the model's name, which is part of URLs and is cut at colons."""
    return None if given is None else re.sub(r"[^A-Za-z0-9._-]+", "-", given)


def _base(services: Services, who: Identity, name: str) -> str:
    """What the named model stands for: a base, or the name of a tuned model to go on from. ApiError 400."""
    try:
        found = services.models.resolve(who.project_id, name)
    except NoModelError as error:
        raise invalid(
            f"Model {name} is not available for fine-tuning or does not exist.", code="model_not_available"
        ) from error
    return found.base if found.run is None else found.name


def _file(services: Services, who: Identity, id: str, param: str) -> str:
    try:
        found = services.files.get(who.project_id, id)
    except NoFileError as error:
        raise no_such_file(id) from error
    if found.purpose != "fine-tune":
        raise invalid(
            f"File '{id}' has purpose '{found.purpose}', but a {param} must have purpose 'fine-tune'.", param,
            "invalid_file_purpose",
        )  # fmt: skip
    return id


def _most(services: Services, who: Identity) -> int:
    """How many unfinished jobs the key may have."""
    limit = services.settings.limits.unfinished_jobs
    return limit if who.max_queued is None else min(limit, who.max_queued)


def _moved(services: Services, who: Identity, job_id: str, action: str) -> wire.Job:
    move = {"cancel": services.queue.cancel, "pause": services.queue.pause, "resume": services.queue.resume}[action]
    try:
        return job(move(who.project_id, job_id, actor=f"key:{who.key_id}"))
    except NoJobError as error:
        raise no_such_job(job_id) from error
    except IllegalMoveError as error:
        status = (
            "has already completed" if error.status in ("succeeded", "failed", "cancelled") else f"is {error.status}"
        )
        raise invalid(f"Job {job_id} {status}: cannot {action} it.", code="invalid_job_status") from error


def _permission(grant: Grant) -> wire.Permission:
    return wire.Permission(id=grant.id, created_at=int(grant.created_at), project_id=grant.project_id)
