"""Rows and tokens outside the memory: what is read is what was kept, from memory and from disk."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.errors import OutputError
from tunesmith.core.messages import Example, Labelled, Message, squeezed
from tunesmith.data.keys import Keys, overlapping
from tunesmith.data.rows import Joined, RowStore, pick, records
from tunesmith.data.spool import Spool
from tunesmith.data.tokenize import Encoded
from tunesmith.data.tokens import TokenStore

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def example(text: str, answer: str = "yes", **more: Any) -> Example:
    return Example(messages=(Message(role="user", content=text), Message(role="assistant", content=answer)), **more)


@given(records=st.lists(st.binary(max_size=40), max_size=30), in_memory=st.integers(1, 200), data=st.data())
def test_records_come_back_in_any_order_from_memory_and_disk(
    records: list[bytes], in_memory: int, data: st.DataObject
) -> None:
    kept = Spool(in_memory)
    for number, record in enumerate(records):
        kept.append(record)
        asked = data.draw(st.integers(0, number))
        assert kept[asked] == records[asked]
    assert list(kept) == records
    assert kept.size == sum(map(len, records))


@given(texts=st.lists(st.tuples(st.text(), JSON), max_size=5))
def test_rows_come_back_equal(texts: list[tuple[str, Any]]) -> None:
    rows = [example(text, metadata={"is": value}, origin=f"f:{i}") for i, (text, value) in enumerate(texts)]
    store = RowStore(rows)
    assert list(store) == rows
    assert [store[i] for i in range(len(rows))] == rows
    assert list(store[1:]) == rows[1:]
    assert [Example.model_validate_json(one) for one in records(store)] == rows
    assert list(records(Joined([store, rows]))) == [*records(store), *records(rows)]
    assert store[-1:] and store[-1] == rows[-1] if rows else not store


def test_every_part_of_a_row_survives() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1.10}'}}
    turns = (
        Message(role="system", content="s"), Message(role="user", content="u", name="Ann"),
        Message(role="assistant", tool_calls=(call,), weight=0.5), Message(role="tool", content="2", tool_call_id="c"),
        Message(role="assistant", content="", reasoning_content="thought"),
    )  # fmt: skip
    row = Example(messages=turns, tools=({"type": "function"},), metadata={"x": math.inf}, origin="f:1")
    assert RowStore([row])[0] == row
    labelled = Labelled(prompt=turns[:2], answer=turns[4], label=False)
    assert list(RowStore([labelled])) == [labelled]


def test_views_of_views_and_of_several_parts() -> None:
    rows = [example(str(i)) for i in range(10)]
    whole = Joined([RowStore(rows[:4]), rows[4:4], rows[4:]])
    assert list(whole) == rows
    assert [whole[i] for i in range(-10, 10)] == [rows[i] for i in range(-10, 10)]
    some = pick(whole, [7, 2, 2])
    assert list(some) == [rows[7], rows[2], rows[2]]
    assert list(pick(some, [1, 0])) == [rows[2], rows[7]]
    assert list(some[1:]) == [rows[2], rows[2]]
    assert pick(rows, range(10)) is rows
    with pytest.raises(IndexError):
        whole[10]


def test_tokens_come_back_with_their_sizes() -> None:
    rows = [
        Encoded(np.arange(n, dtype=np.int32), np.linspace(0, 1, n, dtype=np.float32), truncated=n == 3)
        for n in (1, 3, 0, 7)
    ]
    store = TokenStore()
    for row in rows:
        store.append(row)
    for read in (list(store), [store[i] for i in range(4)]):
        assert all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(read, rows, strict=True))
        assert all(np.array_equal(a.loss_weight, b.loss_weight) for a, b in zip(read, rows, strict=True))
        assert [one.truncated for one in read] == [False, True, False, False]
    sizes = store.sizes().pick([1, 3])
    assert (sizes.lengths.tolist(), sizes.labelled.tolist(), sizes.truncated.tolist()) == (
        [3, 7],
        [2, 6],
        [True, False],
    )


def test_a_spool_leaves_no_file_and_says_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    kept = Spool(in_memory=4)
    kept.append(b"more than four")
    assert kept[0] == b"more than four"
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: _Full())
    with pytest.raises(OutputError, match="disk is full"):
        Spool(in_memory=4).append(b"more than four")


class _Full:
    def close(self) -> None:
        pass

    def write(self, _: object) -> int:
        raise OSError(28, os.strerror(28))


def test_rows_that_may_call_other_tools_neither_repeat_nor_contradict_each_other() -> None:
    plain, other = example("a", "1"), example("a", "2")
    first, second = ({"type": "function", "function": {"name": name, "parameters": {}}} for name in "xy")
    rows = [row.model_copy(update={"tools": (tool,)}) for row in (plain, other) for tool in (first, second)]
    keys = Keys.of([plain, *rows, rows[0]])
    assert keys.repeated().tolist() == [False] * 5 + [True]
    assert keys.contradicting().tolist() == [False, False, False, True, True, False]
    assert len(set(keys.groups().tolist())) == 1, "a split keeps one prompt on one side, whatever the tools"


KEYED = st.lists(st.tuples(st.sampled_from("aAbc"), st.sampled_from(["1", "2", " 1"])), max_size=12)


@given(pairs=KEYED, held=KEYED)
def test_keys_say_what_texts_say(pairs: list[tuple[str, str]], held: list[tuple[str, str]]) -> None:
    rows = [example(prompt, answer) for prompt, answer in pairs]
    keys, known = Keys.of(rows), dict[str, set[str]]()
    repeated, contradicting, order = [], [], list[str]()
    for row in rows:
        answers, answer = known.setdefault(row.prompt_key(), set()), row.answer().strip()
        repeated.append(answer in answers)
        contradicting.append(bool(answers) and answer not in answers)
        answers.add(answer)
        order += [row.prompt_key()] * (row.prompt_key() not in order)
    assert keys.repeated().tolist() == repeated
    assert keys.contradicting().tolist() == contradicting
    assert keys.groups().tolist() == [order.index(row.prompt_key()) for row in rows]
    others = [example(prompt, answer).prompt_key() for prompt, answer in held]
    wanted = [(i, others.index(key)) for i, row in enumerate(rows) if (key := row.prompt_key()) in others]
    left, right = overlapping(keys, Keys.of([example(*pair) for pair in held]))
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == wanted


@given(st.text(st.sampled_from("ab \n\t\u00e9\u00a0\x00\x1f\x85"), max_size=9))
def test_white_space_is_one_space_between_words(text: str) -> None:
    assert squeezed(text) == " ".join(text.split())
