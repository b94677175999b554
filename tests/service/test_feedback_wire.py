"""What is kept of answers, for how long, and what people may say of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from said import BASE, Fake, with_fake, words
from serving import House, error
from tunesmith.governance.audit import verify
from tunesmith.monitor.answers import Answers, Bounds
from tunesmith.store.tables import answers, feedback

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def fake(house: House) -> Fake:
    """What answers in the house."""
    return with_fake(house)


def _chat(house: House, key: str = "all", **more: Any) -> Any:
    return house.ask("POST", "/v1/chat/completions", key, json={"model": BASE, "messages": HI} | more)


def _say(house: House, key: str = "all", **said: Any) -> Any:
    return house.ask("POST", "/v1/tunesmith/feedback", key, json=said)


def _count(house: House, table: Any = answers) -> int:
    with house.services.store.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_nothing_is_kept_unless_told(house: House, fake: Fake) -> None:
    _chat(house), _chat(house, stream=True)
    house.ask("POST", "/v1/completions", json={"model": BASE, "prompt": "Once"})
    house.ask("POST", "/v1/responses", json={"model": BASE, "input": "Hi", "store": False})
    assert _count(house) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_kept_when_its_request_says_so(house: House, fake: Fake, stream: bool) -> None:
    answer = _chat(house, store=True, stream=stream, n=2)
    id = "chatcmpl-" + answer.headers["x-request-id"].removeprefix("req_")
    kept = house.ask("GET", f"/v1/chat/completions/{id}").json()
    assert [choice["message"]["content"] for choice in kept["choices"]] == ["Hello", "Hello"]
    assert stream or {**kept["choices"][0]["message"], "tool_calls": None} == {
        **answer.json()["choices"][0]["message"], "tool_calls": None
    }  # fmt: skip
    assert house.ask("GET", f"/v1/chat/completions/{id}", "other").status_code == 404
    assert house.ask("DELETE", f"/v1/chat/completions/{id}", "other").status_code == 404
    assert house.ask("DELETE", f"/v1/chat/completions/{id}").json()["deleted"] is True
    assert house.ask("GET", f"/v1/chat/completions/{id}").status_code == 404
    assert _count(house) == 0, "the second answer goes with the first"


def test_the_configuration_may_keep_all(tmp_path: Path) -> None:
    with House.open(tmp_path / "home", keep={"answers": True}) as house:
        with_fake(house)
        _chat(house), _chat(house, stream=True), _chat(house, store=False)
        house.ask("POST", "/v1/completions", json={"model": BASE, "prompt": ["a", "b"]})
        with house.services.store.reading() as connection:
            found = sorted(row.kind for row in connection.execute(select(answers)))
        assert found == ["chat", "chat", "completion", "completion"]


def test_feedback_by_any_id_of_the_request(house: House, fake: Fake) -> None:
    answer = _chat(house, store=True, n=2)
    for id in (answer.headers["x-request-id"], answer.json()["id"]):
        told = _say(house, request_id=id, rating="good", note="fine").json()
        assert (told["object"], told["rating"], told["corrected"]) == ("tunesmith.feedback", "good", None)
        assert told["request_id"] == answer.headers["x-request-id"]
    second = _say(house, request_id=answer.json()["id"], index=1, corrected="Good day").json()
    assert second["rating"] is None
    assert second["request_id"].endswith("#1")
    response = house.ask("POST", "/v1/responses", json={"model": BASE, "input": "Hi"}).json()
    assert _say(house, request_id=response["id"], rating="bad").status_code == 200
    page = house.ask("GET", "/v1/tunesmith/feedback", params={"limit": 3}).json()
    assert [one["rating"] for one in page["data"]] == ["bad", None, "good"]
    assert page["has_more"]
    rest = house.ask("GET", "/v1/tunesmith/feedback", params={"after": page["last_id"]}).json()
    assert len(rest["data"]) == 1


def test_feedback_on_what_is_not_kept_or_not_ones_own(house: House, fake: Fake) -> None:
    unkept, kept = _chat(house).json()["id"], _chat(house, store=True).json()["id"]
    for key, id, index in (("all", unkept, 0), ("all", kept, 1), ("other", kept, 0), ("all", "nonsense", 0)):
        answer = _say(house, key, request_id=id, index=index, rating="good")
        assert (answer.status_code, error(answer)["code"]) == (404, "answer_not_kept")
    assert _count(house, feedback) == 0


def test_feedback_may_bring_its_conversation(house: House) -> None:
    told = _say(house, messages=HI, answer="Ho", rating="bad", corrected="Hello", model="theirs").json()
    kept = house.services.answers.get("proj_default", told["request_id"])
    assert (kept.kind, kept.model, kept.answered["message"]["content"]) == ("given", "theirs", "Ho")
    assert house.ask("GET", "/v1/tunesmith/feedback", "other").json()["data"] == []
    assert house.ask("DELETE", f"/v1/tunesmith/feedback/{told['id']}", "other").status_code == 404
    assert house.ask("DELETE", f"/v1/tunesmith/feedback/{told['id']}").status_code == 200
    assert (_count(house), _count(house, feedback)) == (0, 0)


@pytest.mark.parametrize(
    "said",
    [
        {"request_id": "x"}, {"rating": "good"}, {"messages": HI, "rating": "good"}, {"answer": "x", "rating": "good"},
        {"messages": HI, "answer": "x", "request_id": "x", "rating": "good"}, {"request_id": "x", "rating": "so so"},
        {"request_id": "x", "corrected": ""}, {"request_id": "x", "rating": "good", "model": "m"},
        {"messages": HI, "answer": "a\x00", "rating": "good"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_feedback(house: House, said: dict[str, Any]) -> None:
    answer = _say(house, **said)
    assert answer.status_code == 400
    error(answer)
    assert (_count(house), _count(house, feedback)) == (0, 0)


def test_too_much_feedback(tmp_path: Path) -> None:
    with House.open(tmp_path / "home", keep={"feedback": 1}) as house:
        assert _say(house, messages=HI, answer="Ho", rating="bad").status_code == 200
        answer = _say(house, messages=HI, answer="Ho", rating="bad")
        assert (answer.status_code, error(answer)["code"]) == (409, "too_much_feedback")
        assert _count(house) == 1, "the conversation of a refused word is not kept"


def test_what_is_too_large_is_answered_and_not_kept(tmp_path: Path) -> None:
    with House.open(tmp_path / "home", keep={"bytes": 200, "answers": True}) as house:
        fake = with_fake(house)
        fake.script = words("x" * 300)
        assert _chat(house).status_code == 200
        said = house.ask("POST", "/v1/responses", json={"model": BASE, "input": "Hi"}).json()
        assert said["store"] is False
        assert _say(house, messages=HI, answer="x" * 300, rating="good").status_code == 400
        assert _count(house) == 0


def test_age_and_number_end_what_is_kept_unless_somebody_spoke_of_it(house: House, fake: Fake) -> None:
    ids = [_chat(house, store=True).headers["x-request-id"] for _ in range(6)]
    for id in ids[:2]:
        _say(house, request_id=id, rating="good")
    store = house.services.store
    with store.writing() as connection:
        for id, days in zip(ids, (90, 9, 90, 9, 8, 7), strict=True):
            when = store.now(connection) - days * 86_400
            connection.execute(update(answers).where(answers.c.request_id == id).values(created_at=when))
    kept = Answers(store, Bounds(days=30, answers=2))
    kept.tidy("proj_other")
    assert _count(house) == 6
    kept.tidy()
    assert _count(house) == 5, "the one that is too old and that nobody spoke of"
    kept.tidy("proj_default")
    with store.reading() as connection:
        left = {row.request_id for row in connection.execute(select(answers.c.request_id))}
    assert left == {ids[0], ids[1], ids[4], ids[5]}


def test_a_bound_on_the_number_holds_by_itself(tmp_path: Path) -> None:
    with House.open(tmp_path / "home") as house:
        kept = Answers(house.services.store, Bounds(answers=3))
        who = house.services.keys.authenticate(house.keys["all"])
        for number in range(120):
            kept.keep(who, f"req_{number}", kind="chat", model="m", asked={}, answered={})
        assert _count(house) <= 3 + 50


def test_words_are_in_the_audit_log_without_their_texts(house: House) -> None:
    told = _say(house, messages=HI, answer="a secret", rating="bad").json()
    house.ask("DELETE", f"/v1/tunesmith/feedback/{told['id']}")
    from tunesmith.store.tables import audit

    with house.services.store.reading() as connection:
        found = [dict(row._mapping) for row in connection.execute(select(audit).order_by(audit.c.number))]
    assert [one["action"] for one in found[-2:]] == ["feedback.created", "feedback.deleted"]
    assert "secret" not in str(found)
    assert verify(house.services.store)


def test_bounds_of_the_configuration_reach_the_records(tmp_path: Path) -> None:
    with House.open(tmp_path / "home", keep={"days": 2, "most": 3, "bytes": 400, "feedback": 5}) as house:
        assert dataclasses.astuple(house.services.answers.bounds) == (2, 3, 400, 5)
