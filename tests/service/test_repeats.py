"""A POST that is sent twice does its work once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving import House, error
from tunesmith.server.records.repeats import Answer


def _create(house: House, file: str, key: str | None = "one", who: str = "all", **more: Any) -> Any:
    headers = {"idempotency-key": key} if key else {}
    body = {"model": "bundled/tunesmith-8m", "training_file": file} | more
    return house.ask("POST", "/v1/fine_tuning/jobs", who, json=body, headers=headers)


def _jobs(house: House) -> int:
    return len(house.ask("GET", "/v1/fine_tuning/jobs").json()["data"])


def test_the_same_request_gets_the_first_answer_again(house: House) -> None:
    file = house.upload().json()["id"]
    first, second = _create(house, file), _create(house, file)
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert _jobs(house) == 1


def test_another_request_under_the_same_header_is_refused(house: House) -> None:
    file = house.upload().json()["id"]
    assert _create(house, file).status_code == 200
    answer = _create(house, file, seed=3)
    assert (answer.status_code, error(answer)["code"]) == (409, "idempotency_key_reused")
    assert error(answer)["param"] == "idempotency-key"
    assert _create(house, file, key="two", seed=3).status_code == 200
    assert _jobs(house) == 2


def test_the_same_header_of_another_key_means_another_thing(house: House) -> None:
    file = house.upload().json()["id"]
    assert _create(house, file).json()["id"] != _create(house, file, who="train").json()["id"]


def test_a_hundred_at_once_make_one_job(house: House) -> None:
    file = house.upload().json()["id"]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: _create(house, file), range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert _jobs(house) == 1


def test_after_a_failure_the_same_request_may_be_tried_again(house: House) -> None:
    file = house.upload().json()["id"]
    assert _create(house, file, model="nope").status_code == 400
    assert _create(house, file).status_code == 200  # another body: the first one left nothing behind


def test_what_a_lost_server_had_begun_may_be_taken_over(house: House) -> None:
    repeats = house.services.repeats
    assert repeats.claim("proj_default", "k", "/r", "d").mine
    assert not repeats.claim("proj_default", "k", "/r", "d").mine
    clock = house.services.store.now

    def later(connection: Any) -> float:
        return clock(connection) + 181

    house.services.store.now = later  # type: ignore[method-assign]
    claim = repeats.claim("proj_default", "k", "/r", "d")
    assert claim.mine
    repeats.finish("proj_default", "k", claim, Answer(200, "{}", "application/json"))
    assert repeats.claim("proj_default", "k", "/r", "d").answer == Answer(200, "{}", "application/json")


def test_a_retry_of_the_official_client_makes_no_second_job(house: House) -> None:
    file = house.upload().json()["id"]
    body = {"model": "bundled/tunesmith-8m", "training_file": file}
    ids = [
        house.ask(
            "POST", "/v1/fine_tuning/jobs", json=body, headers={"x-stainless-retry-count": count}
        ).json()["id"]
        for count in ("0", "1", "2", "0")
    ]  # fmt: skip
    assert ids[0] == ids[1] == ids[2]
    assert ids[3] != ids[0]  # who asks anew wants another


def test_odd_headers_are_refused(house: House) -> None:
    file = house.upload().json()["id"]
    for key in (" ", "x" * 256, ""):
        headers = {"idempotency-key": key}
        answer = house.ask("POST", "/v1/fine_tuning/jobs", json={"training_file": file}, headers=headers)
        assert answer.status_code == 400
        error(answer)


def test_the_answer_of_a_file_is_given_again(house: House) -> None:
    headers = {"idempotency-key": "file"}
    made = [
        house.ask(
            "POST", "/v1/files", files={"file": ("a", b'{"a": 1}\n')}, data={"purpose": purpose}, headers=headers
        )
        for purpose in ("fine-tune", "fine-tune", "batch")
    ]  # fmt: skip
    assert [answer.status_code for answer in made] == [200, 200, 409]
    assert json.loads(made[0].text) == json.loads(made[1].text)
    assert len(house.ask("GET", "/v1/files").json()["data"]) == 1
    assert house.blobs() == 1
