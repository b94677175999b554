"""Models: what can be asked, and tuned."""

from __future__ import annotations

from ..access import Caller, Serving
from ..errors import ApiError, no_such_model
from ..protocol.common import Deleted, Id
from ..protocol.models import Model, Models
from ..records.models import ModelInUseError, NoModelError, Served
from ..routing import Routes

routes = Routes(prefix="/v1", tags=["models"])


@routes.get("/models", scope="read|infer")
def list_models(who: Caller, services: Serving) -> Models:
    """Bases, their aliases, and the project's tuned models."""
    return Models(data=[wire(model, who.organization) for model in services.models.visible(who.project_id)])


@routes.get("/models/{model:path}", scope="read|infer", errors=(404,))
def retrieve(model: Id, who: Caller, services: Serving) -> Model:
    """One model."""
    try:
        return wire(services.models.resolve(who.project_id, model), who.organization)
    except NoModelError as error:
        raise no_such_model(model) from error


@routes.delete("/models/{model:path}", scope="train", errors=(404, 409))
def delete(model: Id, who: Caller, services: Serving) -> Deleted:
    """Remove a tuned model and its weights. Bases stay: they are the operator's."""
    if model in services.models.bases():
        raise ApiError(403, "Only tuned models can be deleted.", param="model", code="model_not_deletable")
    try:
        weights = services.models.resolve(who.project_id, model).weights
        services.models.delete(who, model)
    except NoModelError as error:
        raise no_such_model(model) from error
    except ModelInUseError as error:
        raise ApiError(409, f"{error.what}.", param="model", code="model_in_use") from error
    if weights is not None:
        services.answerer.forget(weights)
    return Deleted(id=model, object="model")


def wire(model: Served, organization: str) -> Model:
    """A model as clients read it."""
    owner = organization if model.run else "tunesmith"
    return Model(id=model.name, created=int(model.created_at), owned_by=owner)
