"""Reading never fails otherwise than with a reason, and what is exported reads back the same."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from tunesmith.core.errors import TunesmithError
from tunesmith.core.messages import Example, Labelled, Message, Preference, Prompt, Row, Text
from tunesmith.data.formats import FORMATS, Format, RowError, exported, named
from tunesmith.data.load import load
from tunesmith.data.raw import Limits

NAMES = [format.name for format in FORMATS]
SMALL = Limits(row=2000, document=100, columns=20, depth=10, expanded=20_000, problems=50)
letters = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
words = letters.filter(str.strip)
lines = st.lists(words.map(lambda t: t.replace("\r", " ")), min_size=1, max_size=3).map("\n".join).filter(str.strip)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | letters, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(letters, inner, max_size=3)
)
metadata = st.dictionaries(letters.filter(lambda k: k != "metadata"), values, max_size=3)
tool = st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries({"name": words})})
tools = st.none() | st.lists(tool, min_size=1, max_size=2).map(tuple)
weights = st.none() | st.floats(0, 4)
call = st.builds(
    lambda name, arguments, number: {
        "id": number, "type": "function", "function": {"name": name, "arguments": arguments}
    },
    words, values.map(lambda v: orjson.dumps(v).decode()) | letters, st.just("call00000") | words,
)  # fmt: skip


def turn(role: str, **more: Any) -> st.SearchStrategy[Message]:
    return st.builds(Message, role=st.just(role), content=words | lines, **more)


plain = turn("system") | turn("user") | turn("assistant")
rich = (
    plain
    | turn("assistant", weight=weights, reasoning_content=st.none() | letters, name=st.none() | words)
    | turn("tool", tool_call_id=st.none() | st.just("call00000") | words)
    | turn("developer")
    | st.builds(
        Message, role=st.just("assistant"), content=st.none() | letters, weight=weights,
        tool_calls=st.lists(call, min_size=1, max_size=2).map(tuple),
    )
)  # fmt: skip


def learnable(messages: tuple[Message, ...]) -> bool:
    places = [i for i, m in enumerate(messages) if m.role == "assistant"]
    before = messages[: places[-1]] if places else ()
    return any(messages[i].weight != 0 for i in places) and any(m.role != "assistant" for m in before)


def conversations(turns: st.SearchStrategy[Message]) -> st.SearchStrategy[tuple[Message, ...]]:
    return st.lists(turns, min_size=2, max_size=5).map(tuple).filter(learnable)


exchange = st.tuples(turn("user"), turn("assistant"))
exchanges = st.builds(
    lambda system, pairs: (*system, *(message for pair in pairs for message in pair)),
    st.just(()) | st.tuples(turn("system")), st.lists(exchange, min_size=1, max_size=3),
)  # fmt: skip
supervised = st.builds(
    Example, messages=exchange | exchanges | conversations(plain) | conversations(rich), tools=st.none() | tools,
    metadata=metadata,
)  # fmt: skip
asked = st.builds(lambda head, last: (*head, last), st.lists(rich, max_size=2), turn("user"))
answers = st.builds(lambda first, more: (first, *more), turn("assistant"), st.lists(rich, max_size=2))
preferences = st.builds(
    Preference, prompt=asked, chosen=answers, rejected=answers, tools=tools, metadata=metadata
).filter(lambda pair: pair.chosen != pair.rejected)  # fmt: skip
ROWS: dict[str, st.SearchStrategy[Any]] = {
    "supervised": supervised,
    "preference": preferences,
    "labelled": st.builds(
        Labelled, prompt=asked, answer=turn("assistant"), label=st.booleans(), tools=tools, metadata=metadata
    ),
    "prompt": st.builds(
        Prompt, messages=asked, tools=tools,
        fields=st.dictionaries(words.filter(lambda k: k not in ("messages", "tools", "prompt")), values, max_size=3),
    ),
    "text": st.builds(Text, text=words, metadata=metadata),
}  # fmt: skip


def through_json(made: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(orjson.dumps(made))
    return read


@pytest.mark.parametrize("format", FORMATS, ids=NAMES)
@given(data=st.data())
def test_what_is_exported_reads_back_the_same(format: Format, data: st.DataObject) -> None:
    row: Row = data.draw(ROWS[format.kind])
    try:
        made = exported(format, row)
    except RowError:
        return
    assert format.matches(made)
    assert format.parse(through_json(made)) == row


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("chat", supervised),
        ("preference", preferences),
        ("openai_preference", preferences),
        ("kto", ROWS["labelled"]),
        ("reinforcement", ROWS["prompt"]),
        ("text", ROWS["text"]),
        ("instruction", st.builds(Example, messages=exchanges, metadata=metadata)),
        ("sharegpt", st.builds(Example, messages=conversations(plain), tools=tools, metadata=metadata)),
        ("question_answer", st.builds(Example, messages=exchange, metadata=metadata)),
    ],
)
@given(data=st.data())
def test_what_a_format_is_said_to_hold_it_holds(name: str, rows: st.SearchStrategy[Row], data: st.DataObject) -> None:
    row = data.draw(rows)
    assert named(name).parse(through_json(exported(named(name), row))) == row


RAW: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "prompt_completion": {"prompt": "q", "completion": "a"},
    "instruction": {"instruction": "q", "input": "", "output": "a"},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "question_answer": {"question": "q", "answer": "a"},
    "transcript": {"transcript": "Customer: q\nAgent: a"},
    "text": {"text": "t"},
    "preference": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "openai_preference": {
        "input": {"messages": [{"role": "user", "content": "q"}]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    },
    "kto": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": True},
    "reinforcement": {"prompt": "q", "reference_answer": "a"},
}  # fmt: skip
beside = st.dictionaries(st.sampled_from(["id", "source", "lang"]), scalars | letters, max_size=3)


def leaves(value: Any) -> set[str]:
    """Every scalar of a JSON value but null, with its key."""
    if isinstance(value, dict):
        found = ({f"{key}={leaf}" if not isinstance(v, dict | list) else leaf for leaf in leaves(v)}
                 for key, v in value.items())  # fmt: skip
    elif isinstance(value, list):
        found = (leaves(item) for item in value)
    else:
        return set() if value is None else {repr(value)}
    return set().union(*found)


@pytest.mark.parametrize("name", RAW)
@given(extra=beside, inner=beside, metadata=st.none() | scalars | letters | beside)
@example(extra={"id": 1}, inner={"id": 3}, metadata={"id": 2})
@example(extra={}, inner={}, metadata="crawled in May")
def test_reading_and_writing_lose_no_value_beside_the_row(
    name: str, extra: dict[str, Any], inner: dict[str, Any], metadata: Any
) -> None:
    """Of what is not the row itself each value is there after reading, and after writing and reading again."""
    raw, format = RAW[name] | extra | ({"metadata": metadata} if metadata is not None else {}), named(name)
    given_ = leaves(extra) | leaves({"metadata": metadata})
    if name == "openai_preference":
        raw = raw | {"input": raw["input"] | inner}
        given_ |= leaves(inner)
    try:
        row: Any = format.parse(raw)
    except RowError:
        assert name == "openai_preference"
        assert inner, "refused for two values under one key alone"
        return
    held = row.fields if isinstance(row, Prompt) else row.metadata
    assert leaves(held) >= given_
    again: Any = format.parse(through_json(exported(format, row)))
    assert again == row


@given(
    questions=st.lists(st.from_regex(r"[a-z]{1,9}( [a-z]{1,9}){0,3}\n?[a-z]", fullmatch=True), min_size=2, max_size=6)
)
def test_plain_sentences_fit_into_every_supervised_text_format(questions: list[str]) -> None:
    pair = (Message(role="user", content=questions[0]), Message(role="assistant", content=questions[1]))
    row = Example(messages=pair)
    for name in ("transcript", "prompt_completion", "question_answer", "instruction", "sharegpt", "chat"):
        assert named(name).parse(exported(named(name), row)) == row


keys = st.sampled_from(
    ["messages", "tools", "prompt", "completion", "instruction", "input", "output", "system", "history", "chosen",
     "rejected", "label", "kto_tag", "conversations", "transcript", "text", "question", "answer", "preferred_output",
     "non_preferred_output", "metadata", "role", "content", "from", "value", "weight", "tool_calls", "function"]
)  # fmt: skip
near = st.recursive(
    scalars | letters | st.sampled_from(["user", "assistant", "human", "gpt", "function_call", "{}", "[]", "A: b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
)


@pytest.mark.parametrize("format", FORMATS, ids=NAMES)
@given(row=st.dictionaries(keys, near, max_size=6))
def test_a_row_is_parsed_or_refused_with_a_reason(format: Format, row: dict[str, Any]) -> None:
    reason = "none"
    try:
        if format.matches(row):
            assert format.parse(row).kind == format.kind
    except RowError as error:
        reason = str(error)
    assert reason


packs = st.sampled_from([bytes, gzip.compress, zstandard.compress])
suffixes = st.sampled_from(["", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".md", ".jsonl.gz", ".parquet"])
good = orjson.dumps({"prompt": "a", "completion": "b"})
pieces = st.lists(
    st.binary(max_size=60)
    | near.map(orjson.dumps)
    | st.sampled_from([good, b"a,b\n1,2", b'"', b"\n", b"[", b"]", b"\0", b"---", b"Agent: x", b"PAR1", b"ARROW1\0\0"])
    | letters.map(str.encode),
    max_size=12,
)


@given(pieces=pieces, pack=packs, suffix=suffixes, cut=st.integers(0, 20), format=st.none() | st.sampled_from(NAMES))
@example(pieces=[b"ARROW1\0\0"], pack=bytes, suffix="", cut=0, format=None)
@example(pieces=[b"PAR1", b"\xff" * 40, b"PAR1"], pack=bytes, suffix="", cut=0, format=None)
@example(pieces=[b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"], pack=bytes, suffix="", cut=0, format=None)
def test_any_bytes_load_or_say_why_not(pieces: list[bytes], pack: Any, suffix: str, cut: int, format: Any) -> None:
    content = pack(b"\n".join(pieces))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"data{suffix}"
        path.write_bytes(content[: len(content) - cut] if cut < 10 else content)
        try:
            loaded = load(path, format=format, limits=SMALL)
        except TunesmithError:
            return
    assert loaded.rows == len(loaded.records) + len(loaded.problems)
    assert all(problem.reason and problem.line > 0 for problem in loaded.problems)


@given(bad=st.binary(max_size=40).filter(lambda b: b"\n" not in b), at=st.integers(0, 5))
def test_one_bad_line_costs_one_row(bad: bytes, at: int) -> None:
    rows = [good] * 6
    rows.insert(at + 1, bad)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        path.write_bytes(b"\n".join(rows))
        loaded = load(path)
    assert len(loaded.records) == 6
    assert [p.line for p in loaded.problems] == ([at + 2] if bad.strip() else [])
