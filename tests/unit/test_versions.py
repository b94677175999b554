"""Two versions of a set: every row is somewhere, in one place alone, and the word difference says what changed."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.messages import Example, Labelled, Message, Preference, Prompt, Row, Text
from tunesmith.data import identity, versions
from tunesmith.data.versions import word_difference


def example(question: str, answer: str = "yes", **more: Any) -> Example:
    return Example(messages=(Message(role="user", content=question), Message(role="assistant", content=answer)), **more)


def match(a: list[Row], b: list[Row]) -> versions.Matched:
    return versions.match(a, b, identity.digests(a), identity.digests(b))


ROWS = st.lists(
    st.builds(
        lambda q, a, m: example(f"q{q}", f"a{a}", metadata={"m": m} if m else {}),
        st.integers(0, 3), st.integers(0, 2), st.integers(0, 2),
    ),
    max_size=12,
)  # fmt: skip


@given(ROWS, ROWS)
def test_the_law_of_the_difference(a: list[Row], b: list[Row]) -> None:
    """What `match` says, worked out with counters."""
    found = match(a, b)
    ours, theirs = (Counter(identity.digest(row) for row in rows) for rows in (a, b))
    assert found.same == (ours & theirs).total()
    changed_a, changed_b = ([pair[side] for pair in found.changed] for side in (0, 1))
    assert len(set(changed_a) | set(found.only_a)) == len(changed_a) + len(found.only_a)
    assert len(set(changed_b) | set(found.only_b)) == len(changed_b) + len(found.only_b)
    left_a = Counter(identity.digest(a[i]) for i in (*changed_a, *found.only_a))
    left_b = Counter(identity.digest(b[i]) for i in (*changed_b, *found.only_b))
    assert (left_a, left_b) == (ours - theirs, theirs - ours)
    assert all(a[i].prompt_key() == b[j].prompt_key() and a[i] != b[j] for i, j in found.changed)
    assert all(versions.differences(a[i], b[j]) for i, j in found.changed)
    prompts_a, prompts_b = (
        {rows[i].prompt_key() for i in only} for rows, only in ((a, found.only_a), (b, found.only_b))
    )
    assert prompts_a.isdisjoint(prompts_b), "these would be a change"
    back = match(b, a)
    assert (back.same, len(back.changed)) == (found.same, len(found.changed))
    assert list(found.changed) == sorted(found.changed)
    shifted = match([*b[::-1]], [*a[::-1]])
    assert (shifted.same, len(shifted.changed)) == (found.same, len(found.changed))


def test_a_row_whose_metadata_alone_changed_goes_with_its_own_answer() -> None:
    a = [example("q", "x", metadata={"v": 1}), example("q", "y", metadata={"v": 1}), example("q", "z")]
    b = [example("q", "w"), example("q", "y", metadata={"v": 2}), example("q", "x", metadata={"v": 2})]
    assert match(a, b).changed == ((0, 2), (1, 1), (2, 0))


def test_the_later_of_two_equal_rows_is_the_one_too_many() -> None:
    a, b = [example("q"), example("r"), example("q"), example("q")], [example("q"), example("r")]
    assert match(a, b) == versions.Matched(2, (), (2, 3), ())
    assert match(b, a) == versions.Matched(2, (), (), (2, 3))
    assert match([], []) == versions.Matched(0, (), (), ())


def test_many_rows_are_matched_at_once() -> None:
    order = np.random.default_rng(0).permutation(3000)
    a = [example(f"q{i}", metadata={"i": i}) for i in range(3000)]
    b = [a[i] for i in order if i % 7] + [example(f"q{i}", "no") for i in range(0, 3000, 7)][:400]
    found = match(a, b)
    assert found.same == 3000 - len(range(0, 3000, 7))
    assert [i for i, _ in found.changed] == list(range(0, 3000, 7))[:400]
    assert found.only_a == tuple(range(0, 3000, 7))[400:]


USER, BAD = Message(role="user", content="2+2?"), Message(role="assistant", content="5")
GOOD = Message(role="assistant", content="4")
CALL = Message(role="assistant", content="4", tool_calls=({"function": {"name": "f"}},))


@pytest.mark.parametrize(
    ("a", "b", "parts"),
    [
        (example("q", "x"), example("Q", "x"), {"prompt": ("user: q", "user: Q")}),
        (example("q", "x"), example("q", "y"), {"answer": ("x", "y")}),
        (example("q", "x", metadata={"a": 1, "b": [1]}), example("q", "x", metadata={"b": [2], "c": "t"}),
         {"metadata.a": ("1", ""), "metadata.b": ("[1]", "[2]"), "metadata.c": ("", "t")}),
        (example("q"), example("q", tools=({"x": 1},)), {"tools": ("", '[{"x": 1}]')}),
        (Example(messages=(USER, GOOD)), Example(messages=(USER, CALL)),
         {"answer": ("4", 'assistant: 4 {"tool_calls": [{"function": {"name": "f"}}]}')}),
        (Example(messages=(USER, GOOD)), Example(messages=(USER, GOOD.model_copy(update={"weight": 0.5}))),
         {"answer": ("4", 'assistant: 4 {"weight": 0.5}')}),
        (Preference(prompt=(USER,), chosen=(GOOD,), rejected=(BAD,)),
         Preference(prompt=(USER,), chosen=(BAD,), rejected=(GOOD,)),
         {"chosen": ("assistant: 4", "assistant: 5"), "rejected": ("assistant: 5", "assistant: 4")}),
        (Labelled(prompt=(USER,), answer=GOOD, label=True), Labelled(prompt=(USER,), answer=GOOD, label=False),
         {"label": ("true", "false")}),
        (Prompt(messages=(USER,), fields={"r": 4}), Prompt(messages=(USER,), fields={"r": 5}),
         {"fields.r": ("4", "5")}),
        (Prompt(messages=(USER,), fields={"r": 4}), Prompt(messages=(USER,), fields={"r": "4"}),
         {"fields": ('{"r": 4}', '{"r": "4"}')}),
        (example("q", metadata={"a": [1]}), example("q", metadata={"a": "[1]"}),
         {"metadata": ('{"a": [1]}', '{"a": "[1]"}')}),
        (Text(text="a", metadata={"s": "x"}), Text(text="a", metadata={"s": "y"}), {"metadata.s": ("x", "y")}),
    ],
)  # fmt: skip
def test_which_parts_differ(a: Row, b: Row, parts: dict[str, tuple[str, str]]) -> None:
    assert match([a], [b]).changed == ((0, 0),)
    assert versions.differences(a, b) == parts
    assert versions.outline(a)


def test_texts_that_differ_are_no_change_of_each_other() -> None:
    assert match([Text(text="a")], [Text(text="b")]) == versions.Matched(0, (), (0,), (0,))
    assert versions.differences(Text(text="a"), Text(text="b")) == {"text": ("a", "b")}


@pytest.mark.parametrize(
    ("a", "b", "shown"),
    [
        ("It takes five days.", "It takes six days.", "It takes [-five-]{+six+} days."),
        ("", "yes", "{+yes+}"),
        ("yes", "", "[-yes-]"),
        ("a b", "a  b", "a[- -]{+  +}b"),
        ('{"x": 1}', '{"x": 2}', '{"x": [-1-]{+2+}}'),
        ("one two three", "two three four", "[-one -]two three{+ four+}"),
        ("Ja. " * 40 + "no", "Ja. " * 40 + "yes", " ... Ja. Ja. Ja. Ja. [-no-]{+yes+}"),
        ("x" + " ja" * 40, "y" + " ja" * 40, "[-x-]{+y+} ja ja ja ja ja ja ... "),
    ],
)
def test_the_word_difference(a: str, b: str, shown: str) -> None:
    assert word_difference(a, b) == shown


def test_a_middle_that_is_the_same_is_shown_at_both_its_ends() -> None:
    same = " ".join(str(n) for n in range(100))
    shown = word_difference(f"a {same} b", f"c {same} d")
    assert shown == "[-a-]{+c+} 0 1 2 3 4 5 ... 94 95 96 97 98 99 [-b-]{+d+}"


def test_very_long_texts_are_told_soon_and_shortly() -> None:
    a, b = (" ".join(f"{letter}{n}" for n in range(50_000)) for letter in "ab")
    assert len(word_difference(f"so {a}.", f"so {b}.")) < 400


@given(st.text("ab .\n", max_size=30), st.text("ab .\n", max_size=30))
def test_a_short_difference_holds_both_texts(a: str, b: str) -> None:
    """Taking the marks' content out, or the marks away, gives the two texts again."""
    shown = word_difference(a, b)
    if " ... " not in shown:
        assert re.sub(r"\{\+.*?\+\}", "", shown, flags=re.S).replace("[-", "").replace("-]", "") == a
        assert re.sub(r"\[-.*?-\]", "", shown, flags=re.S).replace("{+", "").replace("+}", "") == b
