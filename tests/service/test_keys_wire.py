"""API keys and the audit log over HTTP: told once, of one's own project alone, gone at once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from serving import House, error


def _create(house: House, key: str = "admin", headers: Any = None, **body: Any) -> Any:
    asked = {"name": "ci", "scopes": ["read"]} | body
    return house.ask("POST", "/v1/tunesmith/keys", key, json=asked, headers=headers or {})


def _with(house: House, value: str, path: str = "/v1/files") -> int:
    return int(house.client.get(path, headers={"authorization": f"Bearer {value}"}).status_code)


def test_a_key_opens_what_it_shall_until_it_is_revoked(house: House) -> None:
    made = _create(house, expires_in_seconds=3600, max_queued=2).json()
    assert made["value"].startswith(f"ts-{made['id']}")
    assert made["redacted_value"] == f"ts-{made['id']}...{made['value'][-4:]}"
    assert made["project_id"] == "proj_default"
    assert made["max_queued"] == 2
    assert 3500 < made["expires_at"] - time.time() < 3700
    assert _with(house, made["value"]) == 200
    assert _with(house, made["value"], "/v1/tunesmith/keys") == 403
    listed = house.ask("GET", "/v1/tunesmith/keys", "admin").text
    assert made["id"] in listed
    assert made["value"] not in listed
    gone = house.ask("DELETE", f"/v1/tunesmith/keys/{made['id']}", "admin").json()
    assert gone["revoked_at"] is not None
    assert "value" not in gone
    assert _with(house, made["value"]) == 401
    assert house.ask("DELETE", f"/v1/tunesmith/keys/{made['id']}", "admin").json() == gone  # and stays so


@pytest.mark.parametrize("headers", [{"idempotency-key": "k"}, {"x-stainless-retry-count": "0"}])
def test_a_repeated_request_makes_no_second_key_and_does_not_tell_it_again(
    house: House, headers: dict[str, str]
) -> None:
    first = _create(house, headers=headers).json()
    again = _create(house, headers=headers | {"x-stainless-retry-count": "1"})
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first | {"value": None}
    assert sum(key.name == "ci" for key in house.services.keys.list()) == 1
    database = b"".join(path.read_bytes() for path in house.services.settings.home.glob("tunesmith.db*"))
    assert first["id"].encode() in database
    assert first["value"].encode() not in database


def test_pages_of_keys(house: House) -> None:
    made = [_create(house, name=f"key {i}").json()["id"] for i in range(3)]
    found, after = [], None
    while True:
        query = {"limit": "2"} | ({"after": after} if after else {})
        page = house.ask("GET", "/v1/tunesmith/keys", "admin", params=query).json()
        found += [key["id"] for key in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    mine = [key.id for key in house.services.keys.list("proj_default")]
    assert found == mine
    assert set(made) < set(found)
    assert house.ask("GET", "/v1/tunesmith/keys", "admin", params={"after": "none"}).json()["data"] == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes[0]"),
        ({"name": ""}, "name"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"max_running": 0}, "max_running"),
        ({"project_id": "proj_other"}, "project_id"),
    ],
)
def test_wrong_keys(house: House, change: dict[str, Any], param: str) -> None:
    answer = _create(house, **change)
    assert (answer.status_code, error(answer)["param"]) == (400, param)


def test_the_audit_log_of_a_project(house: House) -> None:
    made = _create(house).json()["id"]
    house.ask("DELETE", f"/v1/tunesmith/keys/{made}", "admin")
    page = house.ask("GET", "/v1/tunesmith/audit", "admin", params={"limit": "1000"}).json()
    told = [(entry["action"], entry["target"]) for entry in page["data"]]
    assert told[-2:] == [("key.created", made), ("key.revoked", made)]
    assert page["data"][-1]["actor"] == f"key:{house.keys['admin'][3:11]}"
    numbers = [int(entry["id"]) for entry in page["data"]]
    assert numbers == sorted(numbers)
    first = house.ask("GET", "/v1/tunesmith/audit", "admin", params={"limit": "1"}).json()
    assert (first["has_more"], len(first["data"])) == (True, 1)
    rest = house.ask("GET", "/v1/tunesmith/audit", "admin", params={"after": first["last_id"]}).json()["data"]
    assert [first["data"][0]["id"], *(entry["id"] for entry in rest)] == [entry["id"] for entry in page["data"]]


def test_nothing_of_another_projects_log_is_told(house: House) -> None:
    value, theirs = house.services.keys.create(name="boss", scopes=["admin"], project_id="proj_other")
    house.upload()
    answer = house.client.get("/v1/tunesmith/audit", headers={"authorization": f"Bearer {value}"})
    assert [entry["target"] for entry in answer.json()["data"]][-1] == theirs.id
    assert not any(entry["action"].startswith("file") for entry in answer.json()["data"])
    assert house.ask("DELETE", f"/v1/tunesmith/keys/{theirs.id}", "admin").status_code == 404
