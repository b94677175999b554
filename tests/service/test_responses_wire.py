"""Responses on the wire: items, events, and what stands on what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from said import BASE, Fake, with_fake, words
from serving import House, error
from tunesmith.inference.ask import Constraint, Named, Piece, ToolCall
from tunesmith.inference.errors import AskError

LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}


@pytest.fixture
def fake(house: House) -> Fake:
    """What answers in the house."""
    return with_fake(house)


def _respond(house: House, key: str = "all", **more: Any) -> Any:
    return house.ask("POST", "/v1/responses", key, json={"model": BASE, "input": "Hi"} | more)


def _events(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for part in answer.text.strip().split("\n\n"):
        name, data = part.split("\n")
        content = json.loads(data.removeprefix("data: "))
        assert name == f"event: {content['type']}"
        found.append((content["type"], content))
    assert [content["sequence_number"] for _, content in found] == list(range(len(found)))
    return found


def _turns(fake: Fake) -> list[tuple[str, str | None]]:
    return [(message.role, message.content) for message in fake.asked[-1].messages]


def test_a_response(house: House, fake: Fake) -> None:
    answer = _respond(house, instructions="Be brief.", metadata={"a": "b"}, temperature=0.5)
    said = answer.json()
    assert said["id"] == "resp_" + answer.headers["x-request-id"].removeprefix("req_")
    assert (said["object"], said["status"], said["error"], said["store"]) == ("response", "completed", None, True)
    assert said["output"][0]["content"][0]["text"] == "Hello"
    assert said["output"][0]["content"][0]["logprobs"] == []
    assert (said["temperature"], said["top_p"], said["metadata"]) == (0.5, 1.0, {"a": "b"})
    assert (said["usage"]["input_tokens"], said["usage"]["output_tokens"], said["usage"]["total_tokens"]) == (5, 2, 7)
    assert _turns(fake) == [("system", "Be brief."), ("user", "Hi")]


def test_one_that_is_cut_says_so(house: House, fake: Fake) -> None:
    fake.script = words("Hel", finish="length")
    said = _respond(house, max_output_tokens=16).json()
    assert (said["status"], said["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert said["output"][0]["status"] == "incomplete"
    assert fake.asked[0].sampling.max_tokens == 16


def test_items_become_turns(house: House, fake: Fake) -> None:
    items = [
        {"role": "system", "content": "A."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look"}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "fc_1", "status": "done"},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "a ball"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "a cat"}]},
        {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Both.", "annotations": [], "logprobs": []}]},
        {"role": "user", "content": "And?"},
    ]  # fmt: skip
    assert _respond(house, input=items, instructions="I.", tools=[LOOK]).status_code == 200
    assert _turns(fake) == [
        ("system", "I.\n\nA."), ("user", "Look"), ("assistant", None), ("tool", "a ball"), ("tool", "a cat"),
        ("assistant", "Both."), ("user", "And?"),
    ]  # fmt: skip
    calls = fake.asked[0].messages[2].tool_calls
    assert calls is not None
    assert [call["id"] for call in calls] == ["c1", "c2"]
    assert dict(fake.asked[0].tools[0]) == {
        "type": "function", "function": {"name": "look", "parameters": {"type": "object"}}
    }  # fmt: skip


def test_formats_choices_and_logprobs(house: House, fake: Fake) -> None:
    said = _respond(
        house, text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}, tools=[LOOK],
        tool_choice={"type": "function", "name": "look"}, include=["message.output_text.logprobs"], top_logprobs=3,
    ).json()  # fmt: skip
    (ask,) = fake.asked
    assert ask.constraint == Constraint("json_schema", {"type": "object"})
    assert (ask.tool_choice, ask.logprobs) == (Named("look"), 3)
    assert said["text"]["format"]["schema"] == {"type": "object"}
    assert said["tools"] == [LOOK]
    assert [one["token"] for one in said["output"][0]["content"][0]["logprobs"]] == ["Hel", "lo"]


def test_a_constraint_that_cannot_be_followed_is_told_under_its_name(house: House, fake: Fake) -> None:
    fake.refuse = AskError("no", param="constraint")
    assert error(_respond(house))["param"] == "text.format"


def test_events(house: House, fake: Fake) -> None:
    events = _events(_respond(house, stream=True))
    assert [name.removeprefix("response.") for name, _ in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    deltas = [content["delta"] for name, content in events if name.endswith("delta")]
    assert deltas == ["Hel", "lo"]
    last = events[-1][1]["response"]
    assert last["output"][0] == events[-2][1]["item"]
    assert last["usage"]["total_tokens"] == 7
    kept = house.ask("GET", f"/v1/responses/{last['id']}").json()
    assert kept == last


def test_events_of_calls(house: House, fake: Fake) -> None:
    fake.script = [Piece(text="Well."), *words(calls=[ToolCall("look", '{"a":1}')], finish="tool_calls")]
    events = _events(_respond(house, stream=True, tools=[LOOK]))
    names = [name for name, _ in events]
    assert names.index("response.output_text.done") < names.index("response.function_call_arguments.delta")
    output = events[-1][1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call"]
    done = next(content for name, content in events if name == "response.function_call_arguments.done")
    assert (done["item_id"], done["output_index"], done["arguments"]) == (output[1]["id"], 1, '{"a":1}')
    assert (output[1]["name"], output[1]["status"]) == ("look", "completed")


def test_a_cut_stream_ends_as_incomplete(house: House, fake: Fake) -> None:
    fake.script = words("x", finish="length")
    assert _events(_respond(house, stream=True))[-1][0] == "response.incomplete"


def test_a_fault_in_the_middle_of_events(house: House, fake: Fake) -> None:
    fake.script = [*words("x")[:-1], RuntimeError("a secret")]
    answer = _respond(house, stream=True)
    events = _events(answer)
    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert house.ask("GET", f"/v1/responses/{events[0][1]['response']['id']}").status_code == 404


def test_a_response_stands_on_another(house: House, fake: Fake) -> None:
    first = _respond(house, input="One", instructions="Only now.").json()
    fake.script = words("Two?")
    second = _respond(house, input="More", previous_response_id=first["id"]).json()
    assert _turns(fake) == [("user", "One"), ("assistant", "Hello"), ("user", "More")]
    third = _respond(house, input="Last", previous_response_id=second["id"], store=False).json()
    assert _turns(fake)[-3:] == [("user", "More"), ("assistant", "Two?"), ("user", "Last")]
    assert third["previous_response_id"] == second["id"]
    listed = house.ask("GET", f"/v1/responses/{second['id']}/input_items", params={"order": "asc"}).json()
    assert [item["role"] for item in listed["data"]] == ["user", "assistant", "user"]
    assert [item["content"][0]["text"] for item in listed["data"]] == ["One", "Hello", "More"]
    assert (listed["has_more"], listed["first_id"]) == (False, listed["data"][0]["id"])


def test_tool_calls_are_answered_in_the_next_one(house: House, fake: Fake) -> None:
    fake.script = words(calls=[ToolCall("look", "{}")], finish="tool_calls")
    first = _respond(house, tools=[LOOK]).json()
    call = first["output"][0]
    assert (call["type"], call["call_id"][:5]) == ("function_call", "call_")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "a ball"}
    _respond(house, input=[result], previous_response_id=first["id"], tools=[LOOK])
    said = fake.asked[-1].messages
    assert said[1].tool_calls is not None
    assert said[1].tool_calls[0]["id"] == said[2].tool_call_id == call["call_id"]


def test_pages_of_input_items(house: House, fake: Fake) -> None:
    items = [{"role": "user", "content": str(number)} for number in range(5)]
    path = f"/v1/responses/{_respond(house, input=items).json()['id']}/input_items"
    found: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = house.ask("GET", path, params={"limit": 2, **after}).json()
        found += [item["content"][0]["text"] for item in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert found == ["4", "3", "2", "1", "0"]


def test_what_is_not_stored_is_not_there(house: House, fake: Fake) -> None:
    said = _respond(house, store=False).json()
    assert said["store"] is False
    assert house.ask("GET", f"/v1/responses/{said['id']}").status_code == 404
    answer = _respond(house, previous_response_id=said["id"])
    told = error(answer)
    assert (answer.status_code, told["param"]) == (400, "previous_response_id")
    assert told["code"] == "previous_response_not_found"


def test_deleted_and_foreign_ones_are_gone(house: House, fake: Fake) -> None:
    id = _respond(house).json()["id"]
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
        assert house.ask(method, f"/v1/responses/{id}{path}", "other").status_code == 404
    assert _respond(house, "other", previous_response_id=id).status_code == 400
    assert house.ask("POST", f"/v1/responses/{id}/cancel").status_code == 400
    assert house.ask("DELETE", f"/v1/responses/{id}").json() == {"id": id, "object": "response", "deleted": True}
    assert house.ask("GET", f"/v1/responses/{id}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"max_output_tokens": 15}, {"background": True}, {"conversation": "conv_1"}, {"prompt": {"id": "x"}},
        {"input": []}, {"input": [{"type": "item_reference", "id": "x"}]}, {"input": None},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"text": {"format": {"type": "json_schema", "name": "x"}}}, {"tool_choice": "required"},
        {"tools": [{"type": "web_search"}]}, {"tools": [LOOK, LOOK]},
        {"tools": [LOOK], "tool_choice": {"type": "function", "name": "see"}},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_responses(house: House, fake: Fake, body: dict[str, Any]) -> None:
    answer = _respond(house, **body)
    assert answer.status_code == 400, answer.text
    assert error(answer)["type"] == "invalid_request_error"
    assert fake.asked == []


def test_no_stream_of_the_past(house: House, fake: Fake) -> None:
    id = _respond(house).json()["id"]
    assert error(house.ask("GET", f"/v1/responses/{id}", params={"stream": "true"}))["param"] == "stream"
