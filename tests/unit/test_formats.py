"""Rows of every format to messages, and the reason for each row that is refused."""

import pytest

from tunesmith.core.errors import UsageError
from tunesmith.data.formats import FORMATS, RowError, detect, named
from tunesmith.data.formats.chat import Chat
from tunesmith.data.formats.instruction import Instruction
from tunesmith.data.formats.prompt_completion import PromptCompletion

USER = {"role": "user", "content": "hello"}
ASSISTANT = {"role": "assistant", "content": "hi"}


def said(parsed):
    return [(m.role, m.content) for m in parsed.messages]


def test_chat_keeps_order_weights_tools_and_metadata():
    tool = {"type": "function", "function": {"name": "f"}}
    row = {
        "messages": [{"role": "system", "content": "be brief"}, USER, ASSISTANT | {"weight": 0.5}],
        "tools": [tool],
        "metadata": {"topic": "greeting"},
        "split": "train",
    }
    parsed = Chat().parse(row)
    assert said(parsed) == [("system", "be brief"), ("user", "hello"), ("assistant", "hi")]
    assert [m.weight for m in parsed.messages] == [None, None, 0.5]
    assert parsed.tools == (tool,)
    assert parsed.metadata == {"topic": "greeting", "split": "train"}


def test_chat_joins_text_parts():
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    assert Chat().parse({"messages": [{"role": "user", "content": parts}, ASSISTANT]}).messages[0].content == "hello"


def test_an_assistant_turn_may_hold_tool_calls_only():
    turn = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    assert Chat().parse({"messages": [USER, turn]}).messages[1].tool_calls[0]["function"]["name"] == "f"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("hello", "'messages' must be a list, not str"),
        (None, "'messages' must be a list, not NoneType"),
        ([], "'messages' is empty"),
        (["hello"], "messages[0] must be an object, not str"),
        ([USER], "no assistant turn"),
        ([ASSISTANT], "nothing stands before the assistant's turns"),
        ([ASSISTANT, USER], "nothing stands before the assistant's turns"),
        ([ASSISTANT, ASSISTANT, USER], "nothing stands before the assistant's turns"),
        ([USER, ASSISTANT | {"weight": 0}], "every assistant turn has weight 0"),
        ([USER | {"weight": 1}, ASSISTANT], "messages[0]: 'weight' is only for assistant turns"),
        ([USER, ASSISTANT | {"weight": -1}], "messages[1]: 'weight'"),
        ([USER, ASSISTANT | {"weight": float("inf")}], "messages[1]: 'weight'"),
        ([{"role": "usr", "content": "x"}, ASSISTANT], "messages[0]: 'role'"),
        ([{"content": "x"}, ASSISTANT], "messages[0]: 'role' is missing"),
        ([{"role": "user", "contnt": "x"}, ASSISTANT], "messages[0]: unknown key 'contnt'; did you mean 'content'?"),
        ([{"role": "user", "content": 5}, ASSISTANT], "messages[0]: 'content'"),
        ([{"role": "user", "content": " \n"}, ASSISTANT], "messages[0]: the user turn is empty"),
        ([USER, {"role": "assistant", "content": ""}], "messages[1]: the assistant turn is empty"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, ASSISTANT], "only content parts of type 'text'"),
    ],
)
def test_chat_refuses_with_the_place_and_the_reason(messages, reason):
    with pytest.raises(RowError) as refused:
        Chat().parse({"messages": messages})
    assert reason in str(refused.value)


@pytest.mark.parametrize("tools", ["[]", {"name": "f"}, ["f"]])
def test_tools_must_be_a_list_of_objects(tools):
    with pytest.raises(RowError, match="'tools' must be a list of objects"):
        Chat().parse({"messages": [USER, ASSISTANT], "tools": tools})


def test_a_trailing_user_turn_is_kept_and_is_no_answer():
    parsed = Chat().parse({"messages": [USER, ASSISTANT, USER]})
    assert [m.role for m in parsed.messages] == ["user", "assistant", "user"]


def test_prompt_completion_drops_surrounding_space():
    parsed = PromptCompletion().parse({"prompt": " 2+2=", "completion": " 4\n", "id": 7})
    assert said(parsed) == [("user", "2+2="), ("assistant", "4")]
    assert parsed.metadata == {"id": 7}


def test_instruction_puts_the_input_below_and_the_history_before():
    row = {
        "instruction": "Translate", "input": "cat", "output": "Katze", "system": "You translate.",
        "history": [["dog", "Hund"]],
    }  # fmt: skip
    assert said(Instruction().parse(row)) == [
        ("system", "You translate."), ("user", "dog"), ("assistant", "Hund"),
        ("user", "Translate\n\ncat"), ("assistant", "Katze"),
    ]  # fmt: skip


@pytest.mark.parametrize("row", [{"input": ""}, {"input": "  "}, {"input": None}, {}])
def test_an_empty_input_adds_nothing(row):
    parsed = Instruction().parse({"instruction": "Say hi", "output": "hi"} | row)
    assert said(parsed) == [("user", "Say hi"), ("assistant", "hi")]


@pytest.mark.parametrize(
    ("format", "row", "reason"),
    [
        (PromptCompletion(), {"prompt": "x", "completion": " "}, "'completion' is empty"),
        (PromptCompletion(), {"prompt": None, "completion": "y"}, "'prompt' is missing"),
        (PromptCompletion(), {"prompt": ["x"], "completion": "y"}, "'prompt' must be a string, not list"),
        (Instruction(), {"instruction": "", "output": "y"}, "'instruction' is empty"),
        (Instruction(), {"instruction": "x", "output": 4}, "'output' must be a string, not int"),
        (Instruction(), {"instruction": "x", "output": "y", "input": {}}, "'input' must be a string, not dict"),
        (Instruction(), {"instruction": "x", "output": "y", "history": "z"}, "'history' must be a list"),
        (Instruction(), {"instruction": "x", "output": "y", "history": [["z"]]}, "'history' must be a list"),
        (Instruction(), {"instruction": "x", "output": "y", "history": [["z", ""]]}, "empty question or answer"),
    ],
)
def test_other_formats_refuse_with_the_reason(format, row, reason):
    with pytest.raises(RowError, match=reason):
        format.parse(row)


def test_rows_are_recognised_by_their_keys():
    assert detect({"messages": []}).name == "chat"
    assert detect({"prompt": "", "completion": ""}).name == "prompt_completion"
    assert detect({"instruction": "", "output": ""}).name == "instruction"
    assert detect({"prompt": "", "chosen": ""}) is None
    assert detect([1]) is None


def test_formats_have_distinct_names_and_are_found_by_them():
    names = [f.name for f in FORMATS]
    assert len(set(names)) == len(names)
    assert all(named(name).name == name for name in names)
    with pytest.raises(UsageError, match="unknown data format 'chatt'") as refused:
        named("chatt")
    assert "did you mean 'chat'?" in refused.value.mend
