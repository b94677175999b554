"""Constrained answers: JSON that fits its schema, and tool calls, whatever the model would like to say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import asked
import tiny
from tunesmith.inference.ask import Ask, Constraint, Limits, Named, Served
from tunesmith.inference.errors import AskError
from tunesmith.inference.serve import Answering

NESTED = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["ball", "cat", 'the "dog"', "é\n"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
        "more": {"$ref": "#/$defs/more"},
    },
    "required": ["kind", "count", "sure", "tags", "more"],
    "additionalProperties": False,
    "$defs": {"more": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": -9, "maximum": 9}]}},
}
SCHEMAS: list[dict[str, Any]] = [
    NESTED,
    {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 2, "maxItems": 4},
    {"type": "string", "pattern": "^[a-c]{2,5}$"},
    {"enum": ["yes", "no"]},
    {"type": "object", "properties": {"a": {"const": None}}, "required": ["a"], "additionalProperties": False},
]
LOOK = {
    "name": "look",
    "parameters": {
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/place"}},
        "required": ["at"],
        "additionalProperties": False,
        "$defs": {"place": {"enum": ["here", "there"]}},
    },
}
GO = {
    "name": "go",
    "parameters": {
        "type": "object",
        "properties": {"far": {"type": "boolean"}, "to": {"$ref": "#/$defs/place"}},
        "required": ["far"],
        "additionalProperties": False,
        "$defs": {"place": {"type": "integer", "minimum": 0, "maximum": 9}},
    },
}
REST: dict[str, Any] = {"name": "rest"}
TOOLS = [{"type": "function", "function": one} for one in (LOOK, GO, REST)]
HERMES = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\\n' + m['content'] }}{% for c in m.tool_calls or [] %}"
    "{{ '<tool_call>\\n' + ({'name': c.function.name, 'arguments': c.function.arguments} | tojson) + "
    "'\\n</tool_call>' }}{% endfor %}{{ '</s>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
LLAMA = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\\n' }}{% if m.tool_calls %}"
    "{% set c = m.tool_calls[0].function %}{{ {'name': c.name, 'parameters': c.arguments} | tojson }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '</s>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
MISTRAL = (
    "{% for m in messages %}{% if m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for c in m.tool_calls %}"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}{% endfor %}{{ ']</s>' }}"
    "{% else %}{{ '<s>' + m['role'] + '\\n' + m['content'] + '</s>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
FAMILIES = {
    "hermes": (HERMES, []),
    "hermes, special": (HERMES, ["<tool_call>", "</tool_call>"]),
    "llama": (LLAMA, []),
    "mistral": (MISTRAL, []),
    "mistral, special": (MISTRAL, ["[TOOL_CALLS]"]),
}


@pytest.fixture(scope="module")
def service() -> Iterator[Answering]:
    with Answering(Limits()) as made:
        yield made


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Random weights: what it would say by itself is never JSON."""
    return asked.served(_base(tmp_path_factory.mktemp("random") / "base", tiny.tokenizer()))


def _base(folder: Path, words: Any) -> Path:
    config = tiny.config("llama", len(words))
    config.max_position_embeddings = 512
    tiny.random_model(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


BUNDLED = Served("bundled", asked.BUNDLED_BASE)


def _answers(service: Answering, ask: Ask) -> list[str]:
    """The whole ones; all of them must fit, and some must be whole."""
    choices = service.submit(ask).choices()
    whole = [choice.text for choice in choices if choice.finish_reason == "stop"]
    assert whole, [choice.text for choice in choices]
    return whole


@pytest.mark.parametrize("schema", SCHEMAS, ids=["nested", "list", "pattern", "word", "null"])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_fits_its_schema(
    schema: dict[str, Any], temperature: float, random_model: Served, service: Answering
) -> None:
    for model in (random_model, BUNDLED):
        ask = asked.ask(
            model, "Say it.", max_tokens=250, temperature=temperature, seed=1, n=8 if temperature else 1,
            constraint=Constraint("json_schema", schema),
        )  # fmt: skip
        for text in _answers(service, ask):
            jsonschema.validate(json.loads(text), schema)


def test_any_object(random_model: Served, service: Answering) -> None:
    ask = asked.ask(BUNDLED, "{", max_tokens=300, temperature=1.0, n=8, constraint=Constraint("json_object"))
    assert all(isinstance(json.loads(text), dict) for text in _answers(service, ask))


def test_an_answer_that_was_cut_says_so(random_model: Served, service: Answering) -> None:
    ask = asked.ask(random_model, max_tokens=3, constraint=Constraint("json_schema", NESTED))
    [choice] = service.submit(ask).choices()
    assert choice.finish_reason == "length"


def test_white_space_comes_to_an_end(random_model: Served, service: Answering) -> None:
    """A model that likes nothing better than white space still finishes."""
    words = tiny.tokenizer()
    likes = {i: 50.0 for i in range(len(words)) if words.decode([i]) and not words.decode([i]).strip()}
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": False}
    ask = asked.ask(random_model, max_tokens=140, logit_bias=likes, constraint=Constraint("json_schema", schema))
    [text] = _answers(service, ask)
    assert json.loads(text) == {"a": 1}
    assert any(letter.isspace() for letter in text)


def test_a_schema_that_cannot_be_followed_is_refused_at_once(random_model: Served, service: Answering) -> None:
    for schema in ({"type": "nothing"}, {"type": "object", "unevaluatedProperties": False}, {"$ref": "#/$defs/no"}):
        with pytest.raises(AskError) as caught:
            service.submit(asked.ask(random_model, constraint=Constraint("json_schema", schema)))
        assert caught.value.param == "constraint"
    with pytest.raises(AskError):
        service.submit(asked.ask(random_model, constraint=Constraint("json_schema")))
    broken = [{"type": "function", "function": {"name": "f", "parameters": {"type": "nothing"}}}]
    with pytest.raises(AskError) as caught:
        service.submit(asked.ask(random_model, tools=broken, tool_choice="required"))
    assert caught.value.param == "tools"


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A random model whose template shows calls as its family does."""
    template, special = FAMILIES[request.param]
    folder: Path = tmp_path_factory.mktemp("family") / "base"
    words = tiny.tokenizer()
    words.chat_template = template
    if special:
        words.add_special_tokens({"additional_special_tokens": special})
    return asked.served(_base(folder, words))


@pytest.mark.parametrize("stops", [(), ("never this",)])
def test_a_call_that_must_come_comes(family: Served, stops: tuple[str, ...], service: Answering) -> None:
    def calls(**more: Any) -> list[Any]:
        ask = asked.ask(family, max_tokens=400, temperature=1.0, tools=TOOLS, n=4, stop=stops, **more)
        whole = [choice for choice in service.submit(ask).choices() if choice.finish_reason != "length"]
        assert whole
        assert all(choice.finish_reason == "tool_calls" and not choice.text.strip() for choice in whole)
        return [choice.tool_calls for choice in whole]

    for made in calls(tool_choice="required"):
        for call in made:
            [tool] = [tool["function"] for tool in TOOLS if tool["function"]["name"] == call.name]
            jsonschema.validate(json.loads(call.arguments), tool.get("parameters") or {"maxProperties": 0})
    for made in calls(tool_choice=Named("go")):
        assert [call.name for call in made] == ["go"]
        jsonschema.validate(json.loads(made[0].arguments), GO["parameters"])
    assert all(len(made) == 1 for made in calls(tool_choice="required", parallel_tool_calls=False))


def test_where_no_tool_may_be_called_calls_are_text(random_model: Served, service: Answering) -> None:
    body = '<tool_call>{"name": "rest", "arguments": {}}</tool_call>'
    schema = Constraint("json_schema", {"const": body})
    free = asked.ask(random_model, max_tokens=150, constraint=schema, tools=TOOLS)
    [choice] = service.submit(free).choices()
    assert choice.finish_reason == "stop", "inside a JSON string it is spelled otherwise"
    none = asked.ask(random_model, max_tokens=10, tools=TOOLS, tool_choice="none")
    bare = asked.ask(random_model, max_tokens=10)
    assert service.submit(none).choices() == service.submit(bare).choices()
