"""Who may use the service, and what was done with it: API keys and the audit log of the caller's project."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Query

from ...core.errors import MissingError
from ...governance import audit
from ...governance.keys import Key
from ..access import Caller, Serving
from ..errors import ApiError
from ..idempotency import Sealing
from ..protocol.common import After, EndedPage, Id, ended
from ..protocol.keys import ApiKey, AuditEntry, KeyRequest, MadeKey
from ..routing import Routes

routes = Routes(prefix="/v1/tunesmith", tags=["keys"])

_MOST = 1_000
Limit = Annotated[int, Query(ge=1, le=_MOST)]


@routes.post("/keys", scope="admin")
def create(body: KeyRequest, who: Caller, services: Serving, seal: Sealing) -> MadeKey:
    """Make a key of the caller's project. It is told in this answer and nowhere else: what is kept opens nothing."""
    expires = None if body.expires_in_seconds is None else time.time() + body.expires_in_seconds
    value, made = services.keys.create(
        name=body.name, scopes=body.scopes, project_id=who.project_id, expires_at=expires,
        max_running=body.max_running, max_queued=body.max_queued, actor=f"key:{who.key_id}",
        also=lambda connection, both: seal(connection, _made(both[1], both[0]), kept=_made(both[1], None)),
    )  # fmt: skip
    return _made(made, value)


@routes.get("/keys", scope="admin")
def list_keys(who: Caller, services: Serving, limit: Limit = 20, after: After = None) -> EndedPage[ApiKey]:
    """The project's keys, newest first, revoked ones among them; none behind one that is not there."""
    found = services.keys.list(who.project_id)
    if after is not None:
        place = next((i for i, key in enumerate(found) if key.id == after), len(found))
        found = found[place + 1 :]
    shown = found[:limit]
    return ended([_shown(key) for key in shown], [key.id for key in shown], len(found) > limit)


@routes.delete("/keys/{key_id}", scope="admin", errors=(404,))
def revoke(key_id: Id, who: Caller, services: Serving) -> ApiKey:
    """From now on the key opens nothing. It stays in the list."""
    try:
        return _shown(services.keys.revoke(key_id, actor=f"key:{who.key_id}", project_id=who.project_id))
    except MissingError as error:
        raise ApiError(404, f"No such key: {key_id}", param="key_id") from error


@routes.get("/audit", scope="admin")
def entries(
    who: Caller, services: Serving, limit: Limit = 100,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="The number after which the page begins.")] = 0,
) -> EndedPage[AuditEntry]:  # fmt: skip
    """What was done in the project, in its order: entries of the audit log."""
    found = audit.entries(services.store, project_id=who.project_id, after=after, limit=limit + 1)
    shown = [
        AuditEntry(
            id=str(one.number), at=one.at, actor=one.actor, action=one.action, target=one.target, detail=one.detail,
            hash=one.hash,
        )
        for one in found[:limit]
    ]  # fmt: skip
    return ended(shown, [one.id for one in shown], len(found) > limit)


def _shown(key: Key) -> ApiKey:
    return ApiKey(
        id=key.id, name=key.name, redacted_value=key.shown, project_id=key.project_id, scopes=list(key.scopes),
        created_at=int(key.created_at), expires_at=_whole(key.expires_at), revoked_at=_whole(key.revoked_at),
        last_used_at=_whole(key.last_used_at), max_running=key.max_running, max_queued=key.max_queued,
    )  # fmt: skip


def _made(key: Key, value: str | None) -> MadeKey:
    return MadeKey(**_shown(key).model_dump(), value=value)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
