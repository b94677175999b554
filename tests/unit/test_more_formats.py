"""ShareGPT, pairs, transcripts, preference, KTO, reinforcement and text: rows to their nouns, refusals to reasons."""

import json

import pytest

from tunesmith.data.formats import FORMATS, RowError, detect, exported, named
from tunesmith.data.formats.transcript import Transcript

CALL = {"name": "find", "arguments": {"what": "café"}}
TOOL = {"name": "find", "parameters": {}}
USER, ASSISTANT = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}


def parsed(name, row):
    assert detect(row).name == name
    return named(name).parse(row)


def said(messages):
    return [(m.role, m.content) for m in messages]


def turn(speaker, value, **more):
    return {"from": speaker, "value": value} | more


def test_sharegpt_turns_calls_and_tools():
    row = {
        "conversations": [
            turn("human", "where?"), turn("function_call", json.dumps([CALL, CALL])), turn("observation", "here"),
            turn("tool", "there"), turn("gpt", "here and there", weight=0.5),
        ],
        "system": "be brief", "tools": json.dumps([TOOL]), "id": 7,
    }  # fmt: skip
    example = parsed("sharegpt", row)
    assert said(example.messages) == [
        ("system", "be brief"), ("user", "where?"), ("assistant", None), ("tool", "here"), ("tool", "there"),
        ("assistant", "here and there"),
    ]  # fmt: skip
    calls = example.messages[2].tool_calls
    assert [json.loads(c["function"]["arguments"]) for c in calls] == [{"what": "café"}] * 2
    assert [c["id"] for c in calls] == [m.tool_call_id for m in example.messages[3:5]] == ["call00000", "call00001"]
    assert example.tools == ({"type": "function", "function": TOOL},)
    assert example.messages[-1].weight == 0.5
    assert example.metadata == {"id": 7}


@pytest.mark.parametrize("arguments", ["{}", '{"a": "é"}', '{"a":1}', '"text"', "[1]", "not JSON", ""])
def test_the_text_of_arguments_survives_sharegpt(arguments):
    call = {"id": "call00000", "type": "function", "function": {"name": "f", "arguments": arguments}}
    example = named("chat").parse({"messages": [USER, {"role": "assistant", "tool_calls": [call]}]})
    made = exported(named("sharegpt"), example)
    assert named("sharegpt").parse(made) == example
    value = json.loads(made["conversations"][1]["value"])["arguments"]
    assert value == ({"a": "é"} if "é" in arguments else {} if arguments == "{}" else arguments)


@pytest.mark.parametrize("tools", [None, "", " ", "[]", []])
def test_no_tools_are_none(tools):
    row = {"conversations": [turn("human", "a"), turn("gpt", "b")], "tools": tools}
    assert parsed("sharegpt", row).tools is None


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ("x", "'conversations' must be a list"),
        ([], "'conversations' is empty"),
        (["x"], r"conversations\[0\] must be an object"),
        ([turn("humn", "a")], r"conversations\[0\]: 'from' is 'humn'; did you mean 'human'"),
        ([turn("human", 5)], r"conversations\[0\]: 'value' must be a string, not int"),
        ([turn("human", "a", val="b")], r"conversations\[0\]: unknown key 'val'; did you mean 'value'"),
        ([turn("human", "a", weight=1)], "only for assistant turns"),
        ([turn("human", "a"), turn("gpt", "b", weight=-1)], "'weight' is a number"),
        ([turn("human", "a"), turn("gpt", "b", weight=True)], "'weight' is a number"),
        ([turn("human", "a"), turn("gpt", " ")], r"conversations\[1\]: the assistant turn is empty"),
        ([turn("human", "a")], "no assistant turn"),
        ([turn("human", "a"), turn("function_call", "find()")], r"conversations\[1\]: the call is not JSON"),
        ([turn("human", "a"), turn("function_call", "[" * 99999)], r"conversations\[1\]: the call is not JSON"),
        ([turn("human", "a"), turn("function_call", "[]")], "a call is an object with 'name' and 'arguments'"),
        ([turn("human", "a"), turn("function_call", '{"name": "f", "arguments": 4}')], "'arguments' an object"),
    ],
)
def test_sharegpt_refuses_with_the_place(turns, reason):
    with pytest.raises(RowError, match=reason):
        parsed("sharegpt", {"conversations": turns})


def test_a_part_that_is_no_text_is_named():
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(RowError, match=r"messages\[0\]: only content parts of type 'text'.*not 'image_url'"):
        parsed("chat", {"messages": [{"role": "user", "content": parts}, ASSISTANT]})


def test_null_keys_of_messages_are_absent():
    row = {"messages": [USER | {"refusal": None, "tool_calls": None}, ASSISTANT | {"audio": None}], "tools": []}
    assert parsed("chat", row) == parsed("chat", {"messages": [USER, ASSISTANT]})


def test_a_prompt_of_messages_is_shown_and_only_the_completion_learned():
    row = {"prompt": [USER, ASSISTANT, USER], "completion": [ASSISTANT], "tools": [TOOL]}
    example = parsed("prompt_completion", row)
    assert [m.weight for m in example.messages] == [None, 0.0, None, None]
    assert example.tools == (TOOL,)


@pytest.mark.parametrize("keys", ["question answer", "query response", "prompt response", "input output"])
def test_pairs_by_their_other_names(keys):
    question, answer = keys.split()
    example = parsed("question_answer", {question: " 2+2 ", answer: "4", "id": 1})
    assert said(example.messages) == [("user", " 2+2 "), ("assistant", "4")]
    assert example.metadata == {"id": 1}


def test_a_transcript_by_speakers():
    text = "[10:02] Agent: Hello, Acme.\n10:03 Customer: Hi.\nIt is broken.\n\nAgent: Which one?\nAgent: The new one?"
    example = parsed("transcript", {"transcript": text})
    assert said(example.messages) == [
        ("assistant", "Hello, Acme."), ("user", "Hi.\nIt is broken."), ("assistant", "Which one?\nThe new one?"),
    ]  # fmt: skip
    assert [m.weight for m in example.messages] == [0.0, None, None]


def test_the_assistant_of_a_transcript_is_asked_for_or_named():
    row = {"transcript": "Anna: hi\nBert: hello"}
    with pytest.raises(RowError, match=r"who is the assistant.*Anna, Bert"):
        Transcript().parse(row)
    assert said(Transcript("bert").parse(row).messages) == [("user", "hi"), ("assistant", "hello")]
    with pytest.raises(RowError, match="'Carl' says nothing here; the speakers are Anna, Bert"):
        Transcript("Carl").parse(row)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello\nAgent: hi", "the first line has no speaker: 'hello'"),
        ("A: x\nB: y\nAgent: z", "two speakers; these lines have 3: A, B, Agent"),
        ("Customer:\nAgent: z", "turn 1 .Customer.: the user turn is empty"),
        ("Customer: x", "who is the assistant"),
    ],
)
def test_a_transcript_that_is_none(text, reason):
    with pytest.raises(RowError, match=reason):
        Transcript().parse({"transcript": text})


@pytest.mark.parametrize(
    "prompt",
    [
        {"prompt": "hello"},
        {"prompt": [USER]},
        {"messages": [USER]},
        {"conversations": [turn("human", "hello")]},
        {"instruction": "hello", "input": ""},
        {"question": "hello"},
    ],
)
@pytest.mark.parametrize(
    "answer", [lambda t: t, lambda t: turn("gpt", t), lambda t: [{"role": "assistant", "content": t}]]
)
def test_preference_in_every_shape(prompt, answer):
    row = parsed("preference", prompt | {"chosen": answer("good"), "rejected": answer("bad"), "score": 1})
    assert said(row.prompt) == [("user", "hello")]
    assert (said(row.chosen), said(row.rejected)) == ([("assistant", "good")], [("assistant", "bad")])
    assert row.metadata == {"score": 1}


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ([USER, ASSISTANT, USER, ASSISTANT], [USER, ASSISTANT, USER, ASSISTANT | {"content": "no"}]),
        (
            "\n\nHuman: hello\n\nAssistant: hi\n\nHuman: hello\n\nAssistant: hi",
            "\n\nHuman: hello\n\nAssistant: hi\n\nHuman: hello\n\nAssistant: no",
        ),
    ],
)
def test_an_implicit_prompt_is_what_both_begin_with(chosen, rejected):
    row = parsed("preference", {"chosen": chosen, "rejected": rejected})
    assert [m.role for m in row.prompt] == ["user", "assistant", "user"]
    assert (said(row.chosen), said(row.rejected)) == ([("assistant", "hi")], [("assistant", "no")])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "the same: there is nothing to prefer"),
        ({"prompt": "x", "chosen": "a", "rejected": " "}, "'rejected': the assistant turn is empty"),
        ({"chosen": "a", "rejected": "b"}, "there is no prompt"),
        ({"prompt": "x", "chosen": [USER], "rejected": "b"}, "chosen answer does not begin with an assistant turn"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "'prompt' is empty"),
        ({"prompt": "x", "chosen": 5, "rejected": "b"}, "'chosen' must be a list, not int"),
    ],
)
def test_a_preference_that_is_none(row, reason):
    with pytest.raises(RowError, match=reason):
        parsed("preference", row)


def test_openai_preference():
    given = {"messages": [USER], "tools": [TOOL | {"function": {}}], "parallel_tool_calls": True}
    row = {"input": given, "preferred_output": [ASSISTANT], "non_preferred_output": [ASSISTANT | {"content": "no"}]}
    pair = parsed("openai_preference", row)
    assert said(pair.chosen) == [("assistant", "hi")]
    assert pair.metadata == {"parallel_tool_calls": True}
    with pytest.raises(RowError, match="'input' must be an object"):
        parsed("openai_preference", row | {"input": "x"})


@pytest.mark.parametrize(
    "shape",
    [
        {"messages": [USER, ASSISTANT]},
        {"prompt": "hello", "completion": "hi"},
        {"instruction": "hello", "output": "hi"},
        {"conversations": [turn("human", "hello"), turn("gpt", "hi")]},
    ],
)
@pytest.mark.parametrize("key", ["label", "kto_tag"])
def test_kto_in_every_shape(shape, key):
    row = parsed("kto", shape | {key: False, "id": 1})
    assert said((*row.prompt, row.answer)) == [("user", "hello"), ("assistant", "hi")]
    assert row.label is False
    assert row.metadata == {"id": 1}


def test_a_label_that_is_not_boolean_is_no_kto():
    assert detect({"messages": [USER, ASSISTANT], "label": "sports"}).name == "chat"
    with pytest.raises(RowError, match="the last turn is not an answer"):
        parsed("kto", {"messages": [USER, ASSISTANT, USER], "label": True})


def test_reinforcement_keeps_fields_for_graders():
    row = parsed("reinforcement", {"messages": [USER], "reference": {"n": 4}, "tools": [TOOL]})
    assert (said(row.messages), row.fields, row.tools) == ([("user", "hello")], {"reference": {"n": 4}}, (TOOL,))
    row = parsed("reinforcement", {"prompt": "hello", "answer": "4"})
    assert (said(row.messages), row.fields) == ([("user", "hello")], {"answer": "4"})
    assert detect({"messages": [USER]}).name == "chat", "without fields it is a chat row that lacks its answer"
    with pytest.raises(RowError, match="the last turn is the assistant's"):
        named("reinforcement").parse({"messages": [USER, ASSISTANT]})


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"prompt": "p", "instruction": "i", "output": "o"}, "instruction"),
        ({"prompt": "p", "question": "q", "answer": "a"}, "question_answer"),
        ({"prompt": "p", "conversations": [turn("human", "q"), turn("gpt", "a")]}, "sharegpt"),
        ({"prompt": "p", "answer": "4"}, "reinforcement"),
    ],
)
def test_a_prompt_beside_a_question_with_its_answer_is_no_reinforcement(row, format):
    assert detect(row).name == format


def test_instructions_with_a_context_and_a_response():
    row = {"instruction": "Who?", "context": "Ann wrote it.", "response": "Ann", "category": "qa"}
    made = parsed("question_answer", row)
    assert said(made.messages) == [("user", "Who?\n\nAnn wrote it."), ("assistant", "Ann")]
    assert made.metadata == {"category": "qa"}
    assert said(parsed("question_answer", row | {"context": ""}).messages)[0] == ("user", "Who?")


def test_text():
    row = parsed("text", {"text": " as it\nstands ", "url": "x"})
    assert (row.text, row.metadata) == (" as it\nstands ", {"url": "x"})
    with pytest.raises(RowError, match="'text' is empty"):
        parsed("text", {"text": " "})


def test_a_row_of_another_kind_is_not_exported():
    rows = [named("text").parse({"text": "x"}), named("chat").parse({"messages": [USER, ASSISTANT]})]
    for format in FORMATS:
        for row in rows:
            if row.kind != format.kind:
                with pytest.raises(RowError, match=f"a row of kind '{row.kind}' cannot be written"):
                    exported(format, row)
