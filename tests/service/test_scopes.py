"""Every route × every scope × a key of another project, from the app's own list of routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter

from serving import House, error
from tunesmith.core.errors import TunesmithError
from tunesmith.governance.keys import SCOPES
from tunesmith.server.app import ROUTES, create_app
from tunesmith.server.routing import SCOPE, GuardedRoute

ALL = [route for routes in ROUTES for route in routes.routes if isinstance(route, GuardedRoute)]
IDS = [f"{min(route.methods)} {route.path}" for route in ALL]
OWN_BODY = {
    "/v1/files": {"files": {"file": ("a.jsonl", b'{"a": 1}\n')}, "data": {"purpose": "fine-tune"}},
    "/v1/fine_tuning/jobs": {"json": {"model": "bundled/tunesmith-8m", "training_file": "FILE"}},
    "/v1/uploads": {"json": {"filename": "a", "purpose": "fine-tune", "bytes": 9, "mime_type": "text/plain"}},
    "/v1/tunesmith/keys": {"json": {"name": "mine", "scopes": ["read"]}},
}  # fmt: skip
"""What makes something of the caller's own: a stranger may do it with things of its own, and not with ours."""


def _needs(route: GuardedRoute) -> str:
    return str((route.openapi_extra or {})[SCOPE])


def _path(route: GuardedRoute, names: dict[str, str]) -> str:
    path = route.path
    for name, value in names.items():
        path = path.replace(f"{{{name}:path}}", value).replace(f"{{{name}}}", value)
    assert "{" not in path, "a test value for this path is missing"
    return path


@pytest.fixture
def names(house: House) -> dict[str, str]:
    """Things of the first project."""
    return _things(house)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, dict[str, str]]]:
    """A server that nobody may change, and things of its first project."""
    with House.open(tmp_path_factory.mktemp("quiet") / "home") as made:
        yield made, _things(made)


def _things(house: House) -> dict[str, str]:
    job = house.job().json()
    upload = house.ask(
        "POST", "/v1/uploads", json={"filename": "a", "purpose": "batch", "bytes": 9, "mime_type": "text/plain"}
    )
    key = house.services.keys.create(name="spare", scopes=["read"])[1]
    return {
        "key_id": key.id,
        "file_id": job["training_file"], "job_id": job["id"], "upload_id": upload.json()["id"], "model": "ft:b:o::x",
        "checkpoint": "ft:b:o::x", "permission_id": "cp_x", "response_id": "resp_x", "completion_id": "chatcmpl-x",
        "feedback_id": "fb_x",
    }  # fmt: skip


def _send(house: House, route: GuardedRoute, names: dict[str, str], key: str) -> Any:
    options: dict[str, Any] = dict(OWN_BODY.get(route.path, {})) if "POST" in route.methods else {}
    if "json" in options:
        options["json"] = {k: names["file_id"] if v == "FILE" else v for k, v in options["json"].items()}
    if route.path.endswith("/parts"):
        options["files"] = {"data": ("data", b"123456789")}
    return house.ask(min(route.methods), _path(route, names), key, **options)


@pytest.mark.parametrize("route", ALL, ids=IDS)
def test_a_route_opens_to_its_scope_alone(house: House, names: dict[str, str], route: GuardedRoute) -> None:
    needs = _needs(route)
    for scope in SCOPES:
        answer = _send(house, route, names, scope)
        if needs == "open" or scope in needs.split("|"):
            assert answer.status_code < 500
            assert answer.status_code not in (401, 403)
        else:
            assert answer.status_code == 403
            assert error(answer)["code"] == "missing_scope"


@pytest.mark.parametrize("route", ALL, ids=IDS)
def test_without_a_key_a_route_is_closed(quiet: tuple[House, dict[str, str]], route: GuardedRoute) -> None:
    house, names = quiet
    path, method = _path(route, names), min(route.methods)
    for headers in ({}, {"authorization": "Bearer ts-" + "x" * 51}, {"authorization": "Basic eA=="}):
        answer = house.client.request(method, path, headers=headers)
        if _needs(route) == "open":
            assert answer.status_code == 200
        else:
            assert answer.status_code == 401
            error(answer)


@pytest.mark.parametrize("route", ALL, ids=IDS)
def test_a_stranger_finds_nothing_of_ours(quiet: tuple[House, dict[str, str]], route: GuardedRoute) -> None:
    house, names = quiet
    answer = _send(house, route, names, "other")
    if "{" in route.path:
        # what the body lacks may be told first; never what is ours
        assert answer.status_code == 404 or (answer.status_code == 400 and "POST" in route.methods), answer.text
    for value in (names["file_id"], names["job_id"], names["upload_id"], names["key_id"]):
        if answer.status_code < 400:
            assert value not in answer.text
    assert house.services.queue.get("proj_default", names["job_id"]).status == "validating_files"
    assert house.services.files.get("proj_default", names["file_id"])
    assert house.services.uploads.get("proj_default", names["upload_id"]).status == "pending"
    assert not next(key for key in house.services.keys.list() if key.id == names["key_id"]).revoked_at


def test_a_stranger_cannot_train_on_our_file(house: House, names: dict[str, str]) -> None:
    answer = house.job("other", training_file=names["file_id"])
    assert answer.status_code == 404
    assert error(answer) == {
        "message": f"No such File object: {names['file_id']}", "type": "invalid_request_error", "param": "id",
        "code": None,
    }  # fmt: skip


def test_a_revoked_key_opens_nothing(house: House) -> None:
    assert house.ask("GET", "/v1/files").status_code == 200
    house.services.keys.revoke(house.keys["all"][3:11])
    answer = house.ask("GET", "/v1/files")
    assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")
    assert house.keys["all"] not in answer.text


def test_an_app_with_a_route_without_a_scope_does_not_start(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = APIRouter()
    plain.add_api_route("/v1/open", _unguarded)
    monkeypatch.setattr("tunesmith.server.app.ROUTES", (*ROUTES, plain))
    with pytest.raises(TunesmithError, match="/v1/open declares no scope"):
        create_app(house.services.settings, house.services)


def _unguarded() -> None:
    """A route as one would write it without thinking."""


def test_the_description_lists_every_route_with_its_scope(house: House) -> None:
    paths = house.client.get("/openapi.json").json()["paths"]
    told = {(path, method): operation[SCOPE] for path, found in paths.items() for method, operation in found.items()}
    assert told == {
        (route.path_format, min(route.methods).lower()): _needs(route) for route in ALL
    }  # fmt: skip
