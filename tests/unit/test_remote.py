"""Asking an OpenAI-compatible endpoint: a real server in this process, with every trouble that one can have."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from typing import Any

import pytest

import endpoint
from endpoint import Reply, refused, said, serving
from tunesmith.core.errors import MissingError
from tunesmith.core.messages import Message
from tunesmith.inference.backends.remote import Endpoint, Question, Remote, Said
from tunesmith.inference.generate import Sampling

GREEDY = Sampling(max_tokens=9)
QUESTION = Question((Message(role="system", content="Be brief."), Message(role="user", content="What?")), seed=4)


def _remote(url: str, **other: Any) -> Remote:
    return Remote(Endpoint(url, "big", **{"timeout": 5.0, "retries": 2, "first_wait": 0.01} | other))


def _fails(url: str, **other: Any) -> str:
    with _remote(url, **other) as remote, pytest.raises(MissingError) as caught:
        remote.answer(QUESTION, GREEDY)
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_what_is_asked_and_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = Message(role="assistant", content="x", weight=0.5, reasoning_content="hm", tool_calls=(call,))
    with serving(lambda asked: said("A cat.")) as server, _remote(server.url + "/") as remote:
        assert remote.answer(QUESTION, GREEDY) == Said("A cat.", "stop")
        server.act = lambda asked: said(None, "tool_calls")
        assert remote.answer(Question((turn,), tools=[{"type": "function"}]), GREEDY) == Said("", "tool_calls")
    assert server.paths == ["/v1/chat/completions"] * 2
    assert server.keys == ["Bearer sk-secret"] * 2
    assert server.asked[0] == {
        "model": "big", "max_tokens": 9, "temperature": 0.0, "top_p": 1.0, "seed": 4,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}],
    }  # fmt: skip
    assert server.asked[1]["messages"] == [{"role": "assistant", "content": "x", "tool_calls": [call]}]
    assert server.asked[1]["tools"] == [{"type": "function"}]


def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(lambda asked: said("A cat.")) as server, _remote(server.url) as remote:
        remote.answer(QUESTION, GREEDY)
    assert server.keys == [None]


@pytest.mark.parametrize("trouble", [refused(429, "slow down"), refused(503, "busy"), (0, {}, b"")], ids=str)
def test_what_passes_by_itself_is_tried_again(trouble: Reply) -> None:
    replies = [trouble, trouble, said("A cat.")]
    with serving(lambda asked: replies.pop(0)) as server, _remote(server.url) as remote:
        assert remote.answer(QUESTION, GREEDY).text == "A cat."
    assert len(server.asked) == 3


def test_the_waits_double_and_retry_after_is_heeded() -> None:
    times: list[float] = []

    def act(asked: dict[str, Any]) -> Reply:
        times.append(time.monotonic())
        return [refused(500, "ill"), refused(500, "ill"), refused(429, "later", Retry_After="0.6"), said("x")][
            len(times) - 1
        ]

    with serving(act) as server, _remote(server.url, retries=3, first_wait=0.1) as remote:
        remote.answer(QUESTION, GREEDY)
    waits = [b - a for a, b in itertools.pairwise(times)]
    assert 0.1 <= waits[0] < waits[1]
    assert waits[1] >= 0.2
    assert waits[2] >= 0.6


def test_it_gives_up_in_the_end() -> None:
    with serving(lambda asked: refused(503, "the model is being loaded")) as server:
        error = _fails(server.url)
    assert len(server.asked) == 3
    assert "answers with an error (503)" in error
    assert "the model is being loaded" in error
    assert "--resume" in error


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refused(401, "Incorrect API key"), ("does not let you in", "Incorrect API key", "OPENAI_API_KEY")),
        (refused(404, "no such model"), ("has no model 'big'", "no such model")),
        (refused(400, "too many tokens"), ("answers with an error (400)", "too many tokens", "correct that")),
        ((403, {}, b"<html>no</html>"), ("does not let you in", "403 Forbidden", "<html>no</html>")),
        ((302, {"Location": "/x"}, b""), ("answers with an error (302)",)),
        ((200, {}, b"<html>hello</html>"), ("does not answer as OpenAI's does", "<html>hello", "/chat/completions")),
        ((200, {}, b'{"choices": []}'), ("does not answer as OpenAI's does", "IndexError")),
        ((200, {}, b'{"choices": [{"message": "x"}]}'), ("does not answer as OpenAI's does",)),
        ((200, {}, b'{"choices": [{"message": {"content": [1]}}]}'), ("the answer is no text",)),
    ],
    ids=lambda value: str(value[0]),
)
def test_what_does_not_pass_ends_at_once(reply: Reply, words: tuple[str, ...]) -> None:
    with serving(lambda asked: reply) as server:
        error = _fails(server.url)
    assert len(server.asked) == 1
    assert [word for word in words if word not in error] == []


def test_nobody_there_silence_and_a_wrong_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert "cannot be reached" in _fails(url, retries=1)
    with serving(endpoint.slowly(0.5, said("late"))) as server:
        assert "cannot be reached" in _fails(server.url, timeout=0.1, retries=1)
    assert len(server.asked) == 2
    assert "has an address that cannot be asked" in _fails("ftp://example.com")


def test_many_are_asked_at_a_time_and_no_more_than_allowed() -> None:
    def act(asked: dict[str, Any]) -> Reply:
        time.sleep(0.02)
        return said(asked["messages"][0]["content"].upper())

    read: list[int] = []

    def questions() -> Any:
        for number in range(30):
            read.append(number)
            yield number, Question((Message(role="user", content=f"q{number}"),))

    with serving(act) as server, _remote(server.url, concurrency=3) as remote:
        answers = remote.answers(questions(), GREEDY)
        first = next(answers)
        assert len(read) <= 3, "questions are read as they are asked"
        found = dict([first, *answers])
    assert {number: answer.text for number, answer in found.items()} == {n: f"Q{n}" for n in range(30)}
    assert 2 <= server.at_once <= 3


def test_after_a_failure_nothing_more_is_asked_and_what_came_before_is_had() -> None:
    failed = threading.Event()

    def act(asked: dict[str, Any]) -> Reply:
        if asked["seed"] == 4:
            failed.set()
            return refused(400, "bad")
        if asked["seed"] == 2:  # out while another fails: its answer is paid for and must not be lost
            failed.wait(10)
            time.sleep(0.05)
        return said("x")

    questions = ((n, Question(QUESTION.messages, seed=n)) for n in range(100))
    found: list[int] = []

    def ask(remote: Remote) -> None:
        for number, _ in remote.answers(questions, GREEDY):
            found.append(number)

    with serving(act) as server, _remote(server.url, concurrency=2) as remote, pytest.raises(MissingError, match="400"):
        ask(remote)
    assert set(found) >= {0, 1, 2, 3}
    assert len(server.asked) < 9


def test_leaving_ends_the_waiting() -> None:
    """Whoever waits for an endpoint that is ill is let go when the run is interrupted."""
    with serving(lambda asked: refused(503, "busy", Retry_After="60")) as server:
        remote = _remote(server.url)
        errors: list[str] = []

        def ask() -> None:
            try:
                remote.answer(QUESTION, GREEDY)
            except MissingError as error:
                errors.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.asked:
            time.sleep(0.01)
        remote.__exit__(None, None, None)
        thread.join(5)
        assert not thread.is_alive()
    assert "was not asked further" in errors[0]
