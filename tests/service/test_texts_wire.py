"""Completions and embeddings on the wire."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from said import BASE, Fake, lp, with_fake, words
from serving import House, error
from tunesmith.inference.ask import Piece
from tunesmith.inference.errors import AskError, BusyError, TooLongError


@pytest.fixture
def fake(house: House) -> Fake:
    """What answers in the house."""
    return with_fake(house)


def _complete(house: House, **more: Any) -> Any:
    return house.ask("POST", "/v1/completions", json={"model": BASE, "prompt": "Once"} | more)


def _embed(house: House, **more: Any) -> Any:
    return house.ask("POST", "/v1/embeddings", json={"model": BASE, "input": "Once"} | more)


@pytest.mark.parametrize(
    ("given", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]]), ("", [""])],
)
def test_prompts(house: House, fake: Fake, given: Any, prompts: Any) -> None:
    assert _complete(house, prompt=given).status_code == 200
    assert sorted((ask.prompt for ask in fake.asked), key=repr) == sorted(prompts, key=repr)
    assert fake.asked[0].sampling.max_tokens == 16
    assert (fake.asked[0].messages, fake.asked[0].logprobs) == ((), None)


def test_answers_stand_in_the_order_of_the_prompts(house: House, fake: Fake) -> None:
    said = _complete(house, prompt=["a", "b"], n=2).json()
    assert (said["object"], said["id"][:5]) == ("text_completion", "cmpl-")
    assert [(choice["index"], choice["text"]) for choice in said["choices"]] == [(i, "Hello") for i in range(4)]
    assert [choice["logprobs"] for choice in said["choices"]] == [None] * 4
    assert said["usage"]["prompt_tokens"] == 10
    assert said["usage"]["completion_tokens"] == 8


def test_echo_and_logprobs(house: House, fake: Fake) -> None:
    choice = _complete(house, prompt=[5, 6], echo=True, logprobs=2).json()["choices"][0]
    assert fake.asked[0].prompt_logprobs
    assert fake.asked[0].logprobs == 2
    assert choice["text"] == "<5><6>Hello"
    assert choice["logprobs"] == {
        "tokens": ["Once", " a", "Hel", "lo"], "token_logprobs": [None, -1.0, -0.5, -0.5],
        "top_logprobs": [None, {}, {}, {}], "text_offset": [0, 4, 6, 9],
    }  # fmt: skip


def test_a_prompt_alone_is_scored(house: House, fake: Fake) -> None:
    choice = _complete(house, echo=True, logprobs=0, max_tokens=0).json()["choices"][0]
    assert choice["text"] == "Once"
    assert choice["logprobs"]["tokens"] == ["Once", " a"]


def test_the_best_are_given(house: House, fake: Fake) -> None:
    scores = iter([-3.0, -1.0, -2.0])

    def answer(ask: Any, handle: Any) -> None:
        for index, score in enumerate(scores):
            told = (lp("x", score),)
            handle.put(Piece(index, f"is {score}", (1,), told, finish_reason="stop"), 1)

    fake._answer = answer  # type: ignore[method-assign]
    said = _complete(house, best_of=3, n=2).json()
    assert fake.asked[0].n == 3
    assert fake.asked[0].logprobs == 0, "without them nobody knows the best"
    assert [choice["text"] for choice in said["choices"]] == ["is -1.0", "is -2.0"]
    assert said["usage"]["completion_tokens"] == 3


def test_a_stream_of_several_prompts(house: House, fake: Fake) -> None:
    answer = _complete(house, prompt=["a", "b"], n=2, stream=True, echo=True, stream_options={"include_usage": True})
    lines = answer.text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    texts = ["", "", "", ""]
    for event in events[:-1]:
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == ["aHello", "aHello", "bHello", "bHello"]
    assert (events[-1]["choices"], events[-1]["usage"]["completion_tokens"]) == ([], 8)


def test_one_prompt_that_is_refused_ends_all(house: House, fake: Fake) -> None:
    taken = fake.submit

    def submit(ask: Any) -> Any:
        if ask.prompt == "b":
            raise BusyError("full")
        return taken(ask)

    fake.submit = submit  # type: ignore[method-assign]
    assert _complete(house, prompt=["a", "b"]).status_code == 429
    assert [handle.cancelled for handle in fake.handles] == [True]


@pytest.mark.parametrize(
    "body",
    [
        {"suffix": "x"}, {"max_tokens": 0}, {"best_of": 1, "n": 2}, {"stream": True, "best_of": 2}, {"logprobs": 6},
        {"prompt": []}, {"prompt": [[]]}, {"prompt": [1, "a"]}, {"prompt": [-1]}, {"prompt": None},
        {"stream_options": {}}, {"prompt": "\ud800"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_completions(house: House, fake: Fake, body: dict[str, Any]) -> None:
    content = json.dumps({"model": BASE, "prompt": "a"} | body)
    answer = house.ask("POST", "/v1/completions", content=content, headers={"content-type": "application/json"})
    error(answer)
    assert answer.status_code == 400
    assert fake.asked == []


def test_embeddings_as_numbers_and_as_bytes(house: House, fake: Fake) -> None:
    said = _embed(house, input=["a", "b"]).json()
    assert [(one["object"], one["index"], one["embedding"]) for one in said["data"]] == [
        ("embedding", 0, [0.6, 0.8]), ("embedding", 1, [0.6, 0.8])
    ]  # fmt: skip
    assert said["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    raw = base64.b64decode(_embed(house, encoding_format="base64").json()["data"][0]["embedding"])
    assert struct.unpack("<2f", raw) == pytest.approx((0.6, 0.8))


@pytest.mark.parametrize(
    ("body", "param"),
    [({"input": ""}, "input"), ({"input": []}, "input"), ({"dimensions": 3}, "dimensions"), ({"input": [[]]}, None)],
)
def test_wrong_embeddings(house: House, fake: Fake, body: dict[str, Any], param: str | None) -> None:
    answer = _embed(house, **body)
    assert answer.status_code == 400
    assert param is None or error(answer)["param"] == param


@pytest.mark.parametrize(
    ("raised", "status", "param"),
    [
        (TooLongError(9, 5, param="input"), 400, "input"),
        (AskError("no", param="prompt"), 400, "input"),
        (BusyError("x"), 429, None),
    ],
)
def test_embeddings_that_are_refused(
    house: House, fake: Fake, raised: Exception, status: int, param: str | None
) -> None:
    fake.refuse = raised
    answer = _embed(house)
    assert (answer.status_code, error(answer)["param"]) == (status, param)


def test_dimensions_that_the_model_has(house: House, fake: Fake) -> None:
    assert _embed(house, dimensions=2).status_code == 200


def test_a_later_failure_of_one_prompt_ends_the_others(house: House, fake: Fake) -> None:
    fake.script = [*words("x")[:-1], AskError("no", param="constraint")]
    answer = _complete(house, prompt=["a", "b"])
    assert answer.status_code == 400
    assert all(not handle.open for handle in fake.handles)
