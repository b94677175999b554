"""What a row and a set of rows are: equal content, equal identity; anything else, another one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.messages import Example, Labelled, Message, Preference, Prompt, Text
from tunesmith.data import identity
from tunesmith.data.load import load
from tunesmith.pipelines.prepare import prepare
from tunesmith.pipelines.recipe import RunSpec

CALL = {"function": {"name": "add", "arguments": '{"a": 1}'}}


def example(question: str = "2+2?", answer: str = "4", **more: Any) -> Example:
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer, **more.pop("turn", {})))
    return Example(messages=turns, **more)


def test_the_digests_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Written down once. When this fails, runs of older versions can no longer be compared: raise `_MARK`'s number."""
    row = example("Où? 我", "là", metadata={"b": 1.5, "a": True, "c": {"z": [1e16, None]}}, origin="x.jsonl:1")
    assert identity.content(row) == {
        "kind": "supervised",
        "messages": [{"role": "user", "content": "Où? 我"}, {"role": "assistant", "content": "là"}],
        "metadata": {"b": "1.5", "a": "true", "c": {"z": [1e16, None]}},
    }
    assert identity.digest(row).hex() == "aff68048bd7ebba72571731b46c52a3d"
    both = identity.root(identity.digests([row, example()]))
    assert both == "4f56dfcda2bf1e08ba9581947bee1ef38e0bfdef9fa9b22c47405c4c03cf8ce6"


@pytest.mark.parametrize(
    "same",
    [
        example(origin="elsewhere:9"),
        example(turn={"weight": 1}),
        example(turn={"weight": 1.0}),
        example(metadata={"note": "", "other": None}),
        Example(messages=(Message(role="user", content="2+2?", tool_calls=()), Message(role="assistant", content="4"))),
    ],
)
def test_what_makes_no_difference(same: Example) -> None:
    assert identity.digest(same) == identity.digest(example())


def test_what_makes_a_difference() -> None:
    rows = [
        example(), example("2+2 ?"), example(answer="4 "), example(turn={"weight": 0}), example(turn={"weight": 0.5}),
        example(metadata={"id": 1}), example(metadata={"id": "01"}), example(metadata={"id": {}}),
        example(tools=(CALL,)), example(turn={"tool_calls": (CALL,)}), example(turn={"reasoning_content": "so"}),
        Example(messages=(Message(role="system", content="2+2?"), Message(role="assistant", content="4"))),
        Example(messages=(*example().messages, *example().messages)),
        Prompt(messages=example().messages), Prompt(messages=example().messages, fields={"id": 1}),
        Prompt(messages=example().messages, fields={"id": "1"}), Text(text="2+2?"), Text(text="4"),
        Labelled(prompt=example().messages[:1], answer=example().messages[1], label=True),
        Labelled(prompt=example().messages[:1], answer=example().messages[1], label=False),
        Preference(prompt=(), chosen=example().messages, rejected=()),
        Preference(prompt=(), chosen=(), rejected=example().messages),
    ]  # fmt: skip
    assert len({identity.digest(row) for row in rows}) == len(rows)


def test_numbers_in_metadata_are_what_a_table_holds() -> None:
    assert identity.digest(example(metadata={"id": 7, "ok": True})) == identity.digest(
        example(metadata={"ok": "true", "id": "7", "empty": ""})
    )


def test_texts_that_no_encoding_takes_have_a_digest() -> None:
    assert identity.digest(example("\ud800")) != identity.digest(example("\ud801"))
    assert identity.digest(example(metadata={"n": [2**70]})) != identity.digest(example(metadata={"n": [2**71]}))


@given(st.lists(st.integers(0, 5), max_size=12), st.randoms(use_true_random=False))
def test_the_root_knows_how_often_and_not_in_which_order(numbers: list[int], shuffler: random.Random) -> None:
    rows = identity.digests([example(str(n)) for n in numbers])
    mixed = list(numbers)
    shuffler.shuffle(mixed)
    assert identity.root(identity.digests([example(str(n)) for n in mixed])) == identity.root(rows)
    for number in numbers[:1]:
        twice = identity.digests([example(str(n)) for n in [*numbers, number]])
        assert identity.root(twice) != identity.root(rows)
        times = [2] + [1] * (len(numbers) - 1)
        assert identity.root(rows, times) == identity.root(twice)
    assert identity.root(rows, [0] * len(numbers)) == identity.root(identity.digests([]))


def test_rows_are_sorted_as_bytes() -> None:
    rows = np.random.default_rng(1).integers(0, 256, (200, identity.SIZE), dtype=np.uint8)
    rows[50:100, :12] = 7  # equal in the first half
    rows[100:150, 0] = 0
    high, low = identity.halves(rows)
    ordered = rows[np.lexsort((low, high))]
    assert [bytes(row) for row in ordered] == sorted(bytes(row) for row in rows)
    assert identity.root(rows) == identity.root(rows[::-1])


def test_a_csv_and_a_jsonl_of_the_same_rows_are_the_same_set(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion,n,note\n2+2?,4,1,\n3+3?,6,2,x\n", "utf-8")
    rows = [{"completion": "6", "prompt": "3+3?", "note": "x", "n": 2}, {"completion": "4", "prompt": "2+2?", "n": 1}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    a, b = (load(tmp_path / name) for name in ("a.csv", "b.jsonl"))
    assert identity.root(identity.digests(a.records)) == identity.root(identity.digests(b.records))


def test_the_audit_has_the_root_of_each_file_and_the_run_that_of_the_rows_used(tmp_path: Path) -> None:
    rows = [{"prompt": f"How much is {i} and {i}?", "completion": f"It is {2 * i}"} for i in range(20)]
    for name, content in (("a", rows), ("b", rows[::-1]), ("c", [*rows, rows[0]])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content), "utf-8")

    def prepared(**source: Any) -> Any:
        return prepare(RunSpec.model_validate({"data": {"train": source, "validation": 0}}))

    a, b, c = (prepared(path=str(tmp_path / f"{name}.jsonl")) for name in "abc")
    roots = [p.audit.as_json()["files"][0]["root"] for p in (a, b, c)]
    used = [p.trained_rows().root() for p in (a, b, c)]
    assert used == roots
    assert roots[0] == roots[1] != roots[2]
    twice = prepared(path=str(tmp_path / "a.jsonl"), weight=2)
    assert twice.audit.as_json()["files"][0]["root"] == roots[0] != twice.trained_rows().root()


@given(st.recursive(
    st.one_of(st.text(max_size=8), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
).map(lambda value: {"kind": "supervised", "value": value}))  # fmt: skip
def test_the_canonical_form_is_the_standard_librarys(value: dict[str, Any]) -> None:
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert identity._canonical(value) == written.encode("utf-8", "surrogatepass")


def test_a_lone_surrogate_has_a_digest() -> None:
    assert identity._canonical({"text": "\ud800"}) == b'{"text":"\xed\xa0\x80"}'
