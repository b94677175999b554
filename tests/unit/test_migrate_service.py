"""The old service over HTTP: a server in this process that misbehaves in every way that it can."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import hosted
from hosted import KEY, Hosted, serving
from tunesmith.core.errors import MissingError, NotAllowedError, TunesmithError
from tunesmith.pipelines.migrate.service import Login, RefusedError, Service


class Asking:
    """A client of a service whose waits are noted and not waited for."""

    def __init__(self, service: Hosted, key: str = KEY):
        self.waits: list[float] = []
        self.client = Service(Login(service.url, key), rate=1e9, timeout=5.0, wait=self._wait)

    def _wait(self, seconds: float) -> None:
        if seconds > 1e-6:  # what the rate asks for here
            self.waits.append(seconds)


def times(count: int, trouble: Any) -> Any:
    """A trouble for the first requests."""
    return lambda number, method, path: trouble if number <= count else None


def limited(**headers: str) -> hosted.Trouble:
    error = {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    return 429, headers, {"error": error}


def test_lists_are_read_to_their_end() -> None:
    with serving(hosted.usual()) as service, Asking(service).client as client:
        assert [job["id"] for job in client.pages("/fine_tuning/jobs")] == [job["id"] for job in service.jobs]
        assert len(service.asked) == 3
        assert service.asked[1][1].endswith(f"after={service.jobs[1]['id']}")
        assert client.asked == {"GET": 3}


def test_a_list_that_goes_round_in_a_circle_ends() -> None:
    again = 200, {}, {"object": "list", "data": [{"id": "a"}, {"id": "b"}], "has_more": True}
    with serving(Hosted(trouble=times(9, again))) as service, Asking(service).client as client:
        with pytest.raises(MissingError, match="circle"):
            list(client.pages("/fine_tuning/jobs"))
        assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"retry-after": "7"}, [7.0, 7.0]),
        ({"retry-after-ms": "1500", "retry-after": "7"}, [1.5, 1.5]),
        ({}, [0.5, 1.0]),
        ({"retry-after": "soon"}, [0.5, 1.0]),
    ],
)
def test_waits_as_long_as_the_service_says(headers: dict[str, str], waited: list[float]) -> None:
    with serving(hosted.usual()) as service:
        service.trouble = times(2, limited(**headers))
        asking = Asking(service)
        with asking.client as client:
            assert client.one("/files/file-train1")["id"] == "file-train1"
    assert asking.waits == waited


def test_waits_until_the_date_that_the_service_names() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    with serving(hosted.usual()) as service:
        service.trouble = times(1, limited(**{"retry-after": at}))
        asking = Asking(service)
        with asking.client as client:
            client.one("/files/file-train1")
    [waited] = asking.waits
    assert 30 < waited <= 40


@pytest.mark.parametrize("trouble", ["hang up", (500, {}, {}), (503, {}, {"error": "busy"}), (408, {}, {})])
def test_what_passes_by_itself_is_tried_again(trouble: Any) -> None:
    with serving(hosted.usual()) as service:
        service.trouble = times(3, trouble)
        asking = Asking(service)
        with asking.client as client:
            assert client.one("/files/file-train1")["id"] == "file-train1"
    assert asking.waits == [0.5, 1.0, 2.0]


def test_what_does_not_pass_ends_with_what_to_do() -> None:
    with serving(hosted.usual()) as service:
        service.trouble = times(99, (503, {}, {"error": {"message": "overloaded"}}))
        with Asking(service).client as client, pytest.raises(MissingError) as caught:
            client.one("/files/file-train1")
        assert len(service.asked) == 7
    assert "503" in caught.value.what
    assert caught.value.why == "overloaded"
    assert "same command again" in str(caught.value.mend)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (limited(**{"x-should-retry": "false"}), MissingError),
        (limited(**{"retry-after": "3600"}), MissingError),
        ((429, {}, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}), MissingError),
        ((404, {}, {"error": {"message": "No such File object: x", "param": "id"}}), RefusedError),
        ((401, {}, {"error": {"message": "Incorrect API key"}}), NotAllowedError),
        ((403, {}, {"error": {"message": "no"}}), RefusedError),
        ((200, {}, b"<html>"), MissingError),  # type: ignore[list-item]
    ],
)
def test_what_no_waiting_mends_is_not_tried_again(trouble: Any, error: type[TunesmithError]) -> None:
    with serving(hosted.usual()) as service:
        service.trouble = times(99, trouble)
        with Asking(service).client as client, pytest.raises(error):
            client.one("/files/file-train1")
        assert len(service.asked) == 1


def test_the_service_may_say_that_more_passes() -> None:
    with serving(hosted.usual()) as service:
        service.trouble = times(1, (400, {"x-should-retry": "true"}, {}))
        with Asking(service).client as client:
            assert client.one("/files/file-train1")["id"] == "file-train1"


def test_a_file_that_breaks_off_is_fetched_again_from_its_beginning() -> None:
    with serving(hosted.usual()) as service:
        service.trouble = times(2, "half")
        file = io.BytesIO()
        with Asking(service).client as client:
            client.content("/files/file-train1/content", file)
        assert file.getvalue() == service.contents["file-train1"]
        assert len(service.asked) == 3


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/fine_tuning/jobs"), ("DELETE", "/files/file-train1"), ("POST", "/fine_tuning/jobs/x/cancel"),
     ("DELETE", "/models/ft:x"), ("PUT", "/chat/completions")],
)  # fmt: skip
def test_nothing_can_be_changed(method: str, path: str) -> None:
    with serving(hosted.usual()) as service:
        with Asking(service).client as client, pytest.raises(AssertionError, match="change the old service"):
            client._patiently(method, path, lambda response: None)
        assert service.asked == []


def test_requests_keep_their_distance() -> None:
    waits: list[float] = []
    with serving(hosted.usual()) as service, Service(Login(service.url, KEY), rate=2.0, wait=waits.append) as client:
        for _ in range(3):
            client.one("/files/file-train1")
    assert len(waits) == 3
    assert waits[0] == 0
    assert all(0.3 < seconds <= 0.5 for seconds in waits[1:])


def test_the_key_is_told_nowhere() -> None:
    login = Login("http://127.0.0.1:1/v1", KEY)
    assert KEY not in repr(login)
    with serving(hosted.usual()) as service:
        service.trouble = times(9, (401, {}, {"error": {"message": f"Incorrect API key provided: {KEY}."}}))
        with Asking(service).client as client, pytest.raises(NotAllowedError) as caught:
            client.one("/files/file-train1")
    assert KEY not in str(caught.value)
    assert "[the key]" in str(caught.value)


def test_where_and_who_comes_from_the_environment() -> None:
    with pytest.raises(MissingError, match="OPENAI_API_KEY"):
        Login.read({"OPENAI_BASE_URL": "http://x/v1", "OPENAI_API_KEY": " "})
    login = Login.read({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://x/v1/", "OPENAI_ORG_ID": "o"})
    assert (login.url, login.headers()["OpenAI-Organization"]) == ("http://x/v1", "o")
    assert "OpenAI-Project" not in login.headers()
    assert Login.read({"OPENAI_API_KEY": "k"}).url == "https://api.openai.com/v1"
