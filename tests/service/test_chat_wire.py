"""Chat completions on the wire: what is asked of the service, and how its answers, refusals and faults are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from said import BASE, Fake, lp, with_fake, words
from serving import House, error
from tunesmith.core.errors import ContentError, MissingError
from tunesmith.inference.ask import Constraint, Named, Piece, ToolCall
from tunesmith.inference.errors import AskError, BusyError, ClosedError, NoRoomError, TooLongError

HI = [{"role": "user", "content": "Hi"}]
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
SEE = {"type": "function", "function": {"name": "see"}}


def _chat(house: House, key: str = "all", **more: Any) -> Any:
    return house.ask("POST", "/v1/chat/completions", key, json={"model": BASE, "messages": HI} | more)


def _events(answer: Any) -> list[Any]:
    """The data of each event; the last one must be [DONE]."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\n")
    lines = answer.text.strip().split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.fixture
def fake(house: House) -> Fake:
    """What answers in the house."""
    return with_fake(house)


def test_all_that_is_asked_reaches_the_service(house: House, fake: Fake) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Loo"}, {"type": "text", "text": "k"}], "name": "tom"},
        {"role": "assistant", "content": None, "refusal": None, "annotations": [], "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "content": "a ball", "tool_call_id": "call_1"},
    ]  # fmt: skip
    answer = _chat(
        house, messages=messages, n=2, stop="END", seed=-3, temperature=0.5, top_p=0, max_tokens=9,
        max_completion_tokens=7, presence_penalty=1, frequency_penalty=-0.5, logit_bias={"5": -100}, logprobs=True,
        top_logprobs=2, tools=[LOOK, SEE], parallel_tool_calls=False,
        tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
            {"type": "function", "function": {"name": "see"}}]}},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    (ask,) = fake.asked
    assert [message.role for message in ask.messages] == ["developer", "user", "assistant", "tool"]
    assert ask.messages[1].content == "Look"
    assert ask.messages[2].tool_calls == tuple(messages[2]["tool_calls"])
    assert ask.messages[3].tool_call_id == "call_1"
    assert (ask.n, list(ask.stop), ask.logprobs, ask.parallel_tool_calls) == (2, ["END"], 2, False)
    assert ([dict(tool) for tool in ask.tools], ask.tool_choice) == ([SEE], "required")
    assert ask.constraint == Constraint("json_schema", {"type": "object"})
    drawn = ask.sampling
    assert (drawn.max_tokens, drawn.temperature, drawn.seed) == (7, 0.5, 2**63 - 3)
    assert 0 < drawn.top_p < 1e-3, "a top_p of 0 would leave no token"
    assert (drawn.presence_penalty, drawn.frequency_penalty, dict(drawn.logit_bias)) == (1, -0.5, {5: -100})
    assert ask.key == house.keys["all"].removeprefix("ts-")[:8]


def test_what_is_not_said_is_as_the_hosted_api_has_it(house: House, fake: Fake) -> None:
    _chat(house), _chat(house)
    first, second = fake.asked
    assert (first.sampling.temperature, first.sampling.top_p, first.n, first.logprobs) == (1, 1, 1, None)
    assert first.sampling.max_tokens == house.services.settings.answering.answer_tokens
    assert first.sampling.seed != second.sampling.seed
    assert (first.constraint, first.tools, first.tool_choice) == (None, [], "auto")


def test_one_tool_may_be_named(house: House, fake: Fake) -> None:
    _chat(house, tools=[LOOK, SEE], tool_choice={"type": "function", "function": {"name": "look"}})
    assert fake.asked[0].tool_choice == Named("look")
    assert len(fake.asked[0].tools) == 2


def test_an_answer(house: House, fake: Fake) -> None:
    answer = _chat(house, n=2, logprobs=True)
    said = answer.json()
    assert said["id"] == "chatcmpl-" + answer.headers["x-request-id"].removeprefix("req_")
    assert (said["object"], said["model"]) == ("chat.completion", BASE)
    assert [choice["index"] for choice in said["choices"]] == [0, 1]
    choice = said["choices"][1]
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []}
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["content"][0] == {
        "token": "Hel", "bytes": [72, 101, 108], "logprob": -0.5, "top_logprobs": []
    }  # fmt: skip
    assert [said["usage"][key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")] == [5, 4, 9]


def test_tool_calls(house: House, fake: Fake) -> None:
    fake.script = words(calls=[ToolCall("look", '{"at": 1}'), ToolCall("look", '{"at": 1}')], finish="tool_calls")
    choice = _chat(house, tools=[LOOK]).json()["choices"][0]
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [{"name": "look", "arguments": '{"at": 1}'}] * 2
    assert calls[0]["id"].startswith("call_")
    assert calls[0]["id"] != calls[1]["id"]
    assert choice["finish_reason"] == "tool_calls"


def test_a_stream(house: House, fake: Fake) -> None:
    answer = _chat(house, stream=True, n=2, logprobs=True)
    events = _events(answer)
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert {event["id"] for event in events} == {"chatcmpl-" + answer.headers["x-request-id"].removeprefix("req_")}
    assert all("usage" not in event for event in events)
    choices = [event["choices"][0] for event in events]
    assert [choice["delta"] for choice in choices[:2]] == [{"role": "assistant", "content": "", "refusal": None}] * 2
    second = [choice for choice in choices if choice["index"] == 1]
    assert [choice["delta"] for choice in second[1:]] == [{"content": "Hel"}, {"content": "lo"}, {}]
    assert [choice["finish_reason"] for choice in second] == [None, None, None, "stop"]
    assert second[1]["logprobs"]["content"][0]["token"] == "Hel"


def test_a_stream_with_usage(house: House, fake: Fake) -> None:
    events = _events(_chat(house, stream=True, stream_options={"include_usage": True}))
    assert all(event["usage"] is None for event in events[:-1])
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] == 7


def test_tool_calls_in_a_stream(house: House, fake: Fake) -> None:
    call = ToolCall("look", "{}")
    fake.script = [Piece(text="Well."), Piece(tool_calls=(call,)), *words(calls=[call], finish="tool_calls")]
    choices = [event["choices"][0] for event in _events(_chat(house, stream=True, tools=[LOOK]))]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert [(call["index"], call["type"], call["function"]["name"]) for call in calls] == [
        (0, "function", "look"), (1, "function", "look")
    ]  # fmt: skip
    assert len({call["id"] for call in calls}) == 2
    assert choices[-1]["finish_reason"] == "tool_calls"


REFUSALS = [
    (BusyError("full"), 429, "rate_limit_error", None, "engine_overloaded"),
    (TooLongError(900, 512), 400, "invalid_request_error", "messages", "context_length_exceeded"),
    (AskError("no", param="constraint"), 400, "invalid_request_error", "response_format", None),
    (AskError("no", param="n"), 400, "invalid_request_error", "n", None),
    (ClosedError("gone"), 503, "server_error", None, "unavailable"),
    (NoRoomError("full"), 503, "server_error", None, "unavailable"),
    (MissingError("no folder"), 404, "invalid_request_error", "model", "model_not_found"),
    (ContentError("a secret path"), 500, "server_error", None, None),
]


@pytest.mark.parametrize(("raised", "status", "type", "param", "code"), REFUSALS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("later", [False, True], ids=["at once", "before the first token"])
def test_what_the_service_refuses(
    house: House, fake: Fake, raised: Exception, status: int, type: str, param: str | None, code: str | None,
    stream: bool, later: bool,
) -> None:  # fmt: skip
    fake.refuse, fake.script = (None, [raised]) if later else (raised, ())
    answer = _chat(house, stream=stream)
    told = error(answer)
    assert (answer.status_code, told["type"], told["param"], told["code"]) == (status, type, param, code)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status in (429, 503))


def test_a_fault_in_the_middle_of_a_stream_is_its_last_event(house: House, fake: Fake) -> None:
    fake.script = [*words("Hel")[:-1], RuntimeError("a secret")]
    answer = _chat(house, stream=True)
    assert answer.status_code == 200
    last = json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert set(last) == {"error"}
    assert last["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert "[DONE]" not in answer.text


def test_a_model_that_is_not_there(house: House, fake: Fake) -> None:
    told = error(_chat(house, model="gpt-17"))
    assert told["message"] == "The model `gpt-17` does not exist or you do not have access to it."
    assert fake.asked == []


BAD = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ""}, "stop[0]"),
    ({"top_logprobs": 3}, None),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, None),
    ({"tool_choice": "required"}, None),
    ({"tools": [LOOK, LOOK]}, "tools"),
    ({"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "see"}}}, "tool_choice"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, None),
    ({"functions": []}, "functions"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, None),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"x": "\ud800"}}}]}, None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), BAD, ids=lambda one: json.dumps(one)[:60])
def test_a_wrong_request(house: House, fake: Fake, body: dict[str, Any], param: str | None) -> None:
    content = json.dumps({"model": BASE, "messages": HI} | body)
    answer = house.ask("POST", "/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    told = error(answer)
    assert (answer.status_code, told["type"]) == (400, "invalid_request_error")
    if param is not None:
        assert told["param"] == param
    assert fake.asked == []


def test_tokens_are_counted_and_what_was_not_used_is_given_back(tmp_path: Path) -> None:
    with House.open(tmp_path / "home", limits={"tokens_per_minute": 100}) as house:
        fake = with_fake(house)
        left = int(_chat(house, max_tokens=40).headers["x-ratelimit-remaining-tokens"])
        key = house.keys["all"].removeprefix("ts-")[:8]
        assert left <= 100 - 7
        level = int(house.services.rates.headers(key)["x-ratelimit-remaining-tokens"])
        assert 100 - 7 <= level <= 100 - 7 + 2, "the answer has 2 tokens, the prompt 5"
        fake.prompt_tokens = 90
        assert _chat(house, max_tokens=3).status_code == 200
        answer = _chat(house, max_tokens=60)
        assert (answer.status_code, error(answer)["code"]) == (429, "rate_limit_exceeded")
        assert "retry-after" in answer.headers


def test_a_bound_answer_longer_than_the_service_takes_is_cut(tmp_path: Path) -> None:
    with House.open(tmp_path / "home", answering={"answer_tokens": 20}) as house:
        fake = with_fake(house)
        _chat(house, max_tokens=1000)
        assert fake.asked[0].sampling.max_tokens == 20


def test_meters_count_tokens(house: House, fake: Fake) -> None:
    _chat(house)
    text = house.ask("GET", "/metrics").text
    assert 'tunesmith_tokens_total{kind="prompt"} 5.0' in text
    assert 'tunesmith_tokens_total{kind="completion"} 2.0' in text


def test_infinite_logprobs_are_numbers(house: House, fake: Fake) -> None:
    fake.script = [Piece(text="x", token_ids=(1,), logprobs=(lp("x", float("-inf")),)), *words()]
    told = _chat(house, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]
    assert told["logprob"] == -9999.0
