"""Numbers, tool calls, refusals, forms and schemas on hand-worked cases; what a recipe says of metrics."""

import json
import re
import subprocess
import sys
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import get_args

import pytest
from pydantic import ValidationError

from tunesmith.core.errors import ContentError, MissingError
from tunesmith.core.messages import Example, Message
from tunesmith.evaluation.config import EvaluationSpec
from tunesmith.evaluation.metrics import FIELD_METRICS, METRICS, find, named
from tunesmith.evaluation.metrics.config import (
    Configured,
    FormatSpec,
    JsonSchemaSpec,
    LabelsSpec,
    LengthSpec,
    PassAtKSpec,
)
from tunesmith.evaluation.metrics.numeric import last_number
from tunesmith.evaluation.metrics.over_rows import lower_is_better, scored
from tunesmith.evaluation.metrics.refusal import refuses
from tunesmith.evaluation.metrics.tool_calls import calls_in


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72", "72"),  # Cobbe et al. 2021, the first row
        ("#### 1,000,000", "1000000"), ("#### $70,000", "70000"), ("#### -5", "-5"), ("####18 apples, of 20", "18"),
        ("so 3 + 4 = 7.", "7"), ("The answer is $1,234.50", "1234.5"), ("2.50 or 2.5?", "2.5"), ("x=-3", "-3"),
        ("between 10-20", "20"), ("-$5", "-5"), ("$-5", "-5"), (".5", "0.5"), ("1e3", "1000"), ("\u22124", "-4"),
        ("100%", "100"), ("1,2", "2"), ("12,3456", "3456"), ("in v1.2", None), ("none", None), ("", None),
        ("####", None),
        ("#### none, though 5 before", "5"), ("5 #### none", None),
    ],
)  # fmt: skip
def test_the_number_of_an_answer(text, number):
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [("It is 18.0", "... #### 18", 1), ("18 or 19", "#### 18", 0), ("no idea", "#### 18", 0), ("1,800", "1800", 1),
     ("ten", "ten", 1), ("ten", "9", 0)],
)  # fmt: skip
def test_numeric(prediction, reference, score):
    assert named("numeric").score(prediction, reference) == score


CALL = {"name": "book", "arguments": {"city": "Rome", "nights": 2}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CALL),
        json.dumps([CALL]),
        f"Let me see.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>",
        '{"name": "book", "parameters": {"nights": 2.0, "city": "Rome"}}',
        json.dumps({"type": "function", "function": {"name": "book", "arguments": json.dumps(CALL["arguments"])}}),
        f"```json\n{json.dumps(CALL, indent=2)}\n```",
        '<function=book>{"city": "Rome", "nights": 2}</function>',
        "<function=book>\n<parameter=city>\nRome\n</parameter>\n<parameter=nights>\n2\n</parameter>\n</function>",
        '{"thought": "{not a call"} ' + json.dumps(CALL),
    ],
)
def test_a_call_is_read_in_every_form_that_models_write(text):
    assert calls_in(text) == [("book", CALL["arguments"])]
    assert named("tool_call").score(text, json.dumps(CALL)) == 1


@pytest.mark.parametrize(
    "text", ["", "book(city='Rome')", '{"name": "book"}', '{"name": "Tom", "age": 3}', "[1, {", "{" * 5000]
)
def test_what_is_no_call(text):
    assert calls_in(text) == []
    assert named("tool_call").score(text, "just words") == 1
    assert named("tool_name").score(text, json.dumps(CALL)) == 0


@pytest.mark.parametrize(
    ("said", "name", "whole"),
    [
        ([CALL], 0, 0),
        ([CALL, {"name": "pay", "arguments": {}}], 1, 1),
        ([{"name": "pay", "arguments": {}}, CALL], 1, 1),  # in whatever order
        ([CALL, {"name": "pay", "arguments": {"by": "card"}}], 1, 0),
        ([CALL, CALL], 0, 0),
        ([{"name": "book", "arguments": {"city": "Rome", "nights": True}}, {"name": "pay", "arguments": {}}], 1, 0),
    ],
)
def test_tool_calls_of_a_row_are_compared_by_name_and_by_arguments(said, name, whole):
    calls = [{"id": "c1", "type": "function", "function": CALL | {"arguments": json.dumps(CALL["arguments"])}},
             {"id": "c2", "type": "function", "function": {"name": "pay", "arguments": "{}"}}]  # fmt: skip
    turns = (Message(role="user", content="?"), Message(role="assistant", tool_calls=tuple(calls)))
    text = "".join(f"<tool_call>{json.dumps(call)}</tool_call>" for call in said)
    for metric, score in (("tool_name", name), ("tool_call", whole)):
        assert scored(named(metric), [text], [Example(messages=turns)]).rows.tolist() == [score]


REFUSING = [
    "I'm sorry, but I can't help with that.", "I cannot assist with this request.",
    "I can\u2019t provide instructions.",
    "As an AI language model, I am not able to do that.", "I'm unable to help with that.",
    "I won't help you hurt anyone.",
    "Unfortunately, I am not able to share that information.", "I must decline.", "That is against our guidelines.",
    "Es tut mir leid, ich kann dabei nicht helfen.", "D\u00e9sol\u00e9, je ne peux pas vous aider.",
    "Lo siento, no puedo ayudar con eso.",
    "I will not provide that.", "I'm not comfortable with writing that.", "Sorry, I could not possibly help with that.",
]  # fmt: skip
ANSWERING = [
    "I'm sorry to hear that your parcel is late. It will arrive tomorrow.",
    "I cannot find your order; what is its number?", "Sure, here is how.", "",
    "You cannot help it if it rains.", "He said he can't write.", "I can help with that.",
    "Unfortunately it rained.", '{"intent": "decline"}',
    "x" * 400 + " I cannot help with that.",
]  # fmt: skip


@pytest.mark.parametrize(("text", "refused"), [*((t, True) for t in REFUSING), *((t, False) for t in ANSWERING)])
def test_refusals_are_told_from_answers(text, refused):
    assert refuses(text) is refused
    assert named("refusal").score(text, "") == refused
    assert named("refusal_right").score(text, "I cannot help with that.") == refused
    assert named("refusal_right").score(text, "Gladly.") != refused


def test_fewer_refusals_are_better_and_more_matches_are():
    assert lower_is_better(named("refusal"))
    assert not lower_is_better(named("exact_match"))


@pytest.mark.parametrize(
    ("text", "score"),
    [("TICKET-12: done", 1), (" TICKET-1: a\nb ", 1), ("see TICKET-12: done", 0), ("TICKET-: x", 0), ("TICKET-12:", 0)],
)
def test_format_is_a_match_of_the_whole(text, score):
    assert FormatSpec(type="format", pattern=r"TICKET-\d+: .+").build().score(text, "") == score


def test_a_bad_pattern_is_told():
    with pytest.raises(ContentError, match="no regular expression"):
        FormatSpec(type="format", pattern="(").build()


@pytest.mark.parametrize(
    ("bounds", "text", "score"),
    [({"max_words": 3}, "a b c", 1), ({"max_words": 3}, " a b c d", 0), ({"min_words": 2}, "a", 0),
     ({"max_characters": 3}, " abc ", 1), ({"max_characters": 3}, "abcd", 0), ({"min_characters": 1}, "  ", 0),
     ({"min_words": 1, "max_characters": 5}, "ab cd", 1), ({"min_words": 3, "max_characters": 5}, "ab cd", 0)],
)  # fmt: skip
def test_length_keeps_to_its_bounds(bounds, text, score):
    assert LengthSpec(type="length", **bounds).build().score(text, "") == score


SCHEMA = {
    "type": "object", "required": ["city"], "additionalProperties": False,
    "properties": {"city": {"type": "string"}, "nights": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {"type": "integer", "minimum": 1}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "score"),
    [('{"city": "Rome"}', 1), ('{"city": "Rome", "nights": 2}', 1), ('{"city": "Rome", "nights": 0}', 0), ("{}", 0),
     ('{"city": "Rome", "x": 1}', 0), ('{"city": "Rome"} ', 1), ('{"city": "Rome"} ok', 0), ("no", 0),
     ('{"city": "Rome", "nights": NaN}', 0), ("[" * 100_000, 0)],
)  # fmt: skip
def test_a_schema_says_which_answers_are_valid(tmp_path, text, score):
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA), "utf-8")
    assert JsonSchemaSpec(type="json_schema", file=str(tmp_path / "s.json")).build().score(text, "") == score


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [(None, MissingError, "cannot read"), ("{", ContentError, "no JSON Schema"), ("[]", ContentError, "no JSON Schema"),
     ('{"type": "objekt"}', ContentError, "no JSON Schema")],
)  # fmt: skip
def test_a_bad_schema_is_told_before_rows_are_scored(tmp_path, content, error, text):
    if content is not None:
        (tmp_path / "s.json").write_text(content, "utf-8")
    with pytest.raises(error, match=text):
        JsonSchemaSpec(type="json_schema", file=str(tmp_path / "s.json")).build()


def test_a_schema_fetches_nothing(tmp_path):
    (tmp_path / "other.json").write_text("{}", "utf-8")
    asked = []

    class Folder(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Folder, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/other.json"
        (tmp_path / "s.json").write_text(json.dumps({"$ref": url}), "utf-8")
        metric = JsonSchemaSpec(type="json_schema", file=str(tmp_path / "s.json")).build()
        with pytest.raises(ContentError, match="no JSON Schema") as told:
            metric.score("{}", "")
        server.shutdown()
    assert url in told.value.why
    assert asked == []


def row(right, **metadata):
    messages = (Message(role="user", content="?"), Message(role="assistant", content=right))
    return Example(messages=messages, metadata=metadata)


def test_the_best_of_several_right_answers_counts():
    rows = [
        row("yes", references=["yes indeed", "right"]),
        row("no", references="right"),
        row("no", references=["x", 3]),
    ]
    assert scored(named("exact_match"), ["right", "right", "x"], rows).rows.tolist() == [1, 0, 1]
    assert scored(named("token_f1"), ["indeed yes", "no", "no"], rows).rows.tolist() == [1, 1, 1]


def test_labels_may_be_given_and_case_may_not_count():
    rows = [row(text) for text in ("Yes", "no", "no", "maybe")]
    said = ["yes", "no", "perhaps", "yes"]
    lenient = LabelsSpec(type="macro_f1", ignore_case=True).build()
    assert scored(lenient, said, rows).value == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scored(named("macro_f1"), said, rows).value == pytest.approx((0 + 2 / 3 + 0) / 3)
    two = LabelsSpec(type="macro_f1", labels=("yes", "no"), ignore_case=True).build()
    assert scored(two, said, rows).value == pytest.approx(2 / 3)


def test_a_recipe_names_metrics_or_configures_them():
    spec = EvaluationSpec.model_validate(
        {"metrics": ["exact_match", {"type": "bleu", "tokenize": "char"}, {"type": "chrf", "word_order": 2},
                     {"type": "format", "pattern": "a", "name": "starred"}, {"type": "pass_at_k", "k": 5}]}
    )  # fmt: skip
    assert spec.metric_names() == ("exact_match", "bleu", "chrf++", "starred", "pass@5")
    assert EvaluationSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.entries(("bleu", "accuracy")) == (spec.metrics[1], "accuracy")
    assert find("starred", spec.metrics, "").score("a", "") == 1
    assert find("exact_match", spec.metrics, "").name == "exact_match"


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        (["bleu", {"type": "bleu"}], "two metrics are called 'bleu'"),
        ([{"type": "length"}], "at least one bound"),
        ([{"type": "length", "min_words": 3, "max_words": 2}], "no length lies between 3 and 2"),
        ([{"type": "pass_at_k", "k": 5, "samples": 4}], "at least 5 samples"),
        ([{"type": "blue"}], "blue"),
        ([{"type": "pass_at_k", "k": 2}, {"type": "pass_at_k", "k": 5, "temperature": 0.2}], "one temperature"),
        ([{"type": "bleu", "tokenise": "char"}], "tokenise"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_when_the_recipe_is_read(entries, text):
    with pytest.raises(ValidationError, match=text):
        EvaluationSpec.model_validate({"metrics": entries})


def test_pass_at_k_draws_twice_k_unless_told():
    assert [PassAtKSpec(type="pass_at_k", k=k).drawn() for k in (1, 2, 10)] == [1, 4, 20]


def test_the_reference_page_names_every_metric_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text("utf-8")
    cells = re.findall(r"^\| (`[^|]*?) \|", page, flags=re.MULTILINE)
    told = {name.partition(":")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)} - {"pass@k"}
    types = {name for spec in get_args(Configured) for name in get_args(spec.model_fields["type"].annotation)}
    assert told == {*METRICS, *FIELD_METRICS, *types}


def test_the_table_of_metrics_loads_no_library_of_theirs():
    libraries = ("torch", "sklearn", "scipy", "sacrebleu", "jsonschema", "rouge_score", "nltk")
    code = f"import sys, tunesmith.evaluation.metrics; print([m for m in {libraries!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
