"""Passages, words, scores; and the law of the rows with context: the right passage is there once, or no answer is."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.messages import Example, Message
from tunesmith.data.contexts import UNSAID, ContextPlan, NoPassageError, Shelf, unanswerable, with_context
from tunesmith.data.lexical import Lexical, words
from tunesmith.data.passages import Document, passages, spans, tidy


def example(question: str, answer: str, **more: Any) -> Example:
    return Example(messages=(Message(role="user", content=question), Message(role="assistant", content=answer)), **more)


def cut(text: str, words: int) -> list[tuple[int, str]]:
    """(lines before it, piece) as rows have it."""
    return [(span.line, tidy(text[span.start : span.end])) for span in spans(text, words)]


@given(st.text("ab. \n\u3042", max_size=80), st.integers(1, 6))
def test_passages_hold_all_words_in_order_and_keep_to_the_limit(text: str, limit: int) -> None:
    pieces = cut(text, limit)
    flat = "".join("".join(piece.split()) for _, piece in pieces)
    assert flat == "".join(text.split())
    lines = text.split("\n")
    for line, piece in pieces:
        assert lines[line].strip()
        assert len(re.findall(r"\u3042|[^\s\u3042]+", piece)) <= limit


def test_paragraphs_are_joined_while_they_fit_and_long_ones_cut_behind_sentences() -> None:
    text = "# Head\n\none two three\n\nfour five\nsix\n\nOne is here. Two is there! Three is not; four is long."
    assert cut(text, 7) == [
        (0, "# Head\n\none two three"), (4, "four five\nsix"), (7, "One is here. Two is there!"),
        (7, "Three is not; four is long."),
    ]  # fmt: skip
    assert [piece for _, piece in cut("a b c d e", 2)] == ["a b", "c d", "e"]


def test_passages_have_places_and_a_text_is_taken_once() -> None:
    made = passages(
        [
            Document("one two\n\nthree four", "a.md", line=10), Document("One  two", "b.md"),
            Document("five six\n\nseven", "c.jsonl", line=3, numbered_by_line=False),
        ], words=2,
    )  # fmt: skip
    assert [(p.place, p.document) for p in made] == [
        ("a.md:10", 0),
        ("a.md:12", 0),
        ("c.jsonl:3", 2),
        ("c.jsonl:3#2", 2),
    ]


def test_words_know_no_case_form_or_punctuation() -> None:
    assert words("Straße, ＡＢＣ-3.5 我很_好!") == ["strasse", "abc", "3", "5", "我", "很", "_", "好"]


TEXTS = ["the cat sat on the mat", "the dog sat", "", "a cat and a cat and a dog", "zebra, and the Cat Sat!"]


def test_scores_are_bm25_worked_by_hand() -> None:
    index = Lexical(TEXTS)
    mean = (6 + 3 + 0 + 8 + 5) / 5

    def part(frequency: int, length: int, having: int) -> float:
        idf = math.log(1 + (5 - having + 0.5) / (having + 0.5))
        return idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / mean))

    wanted = [part(1, 6, 3), part(1, 3, 2), 0, part(2, 8, 3) + part(1, 8, 2), part(1, 5, 3)]
    assert index.scores(["cat", "dog", "cat", "unicorn"]) == pytest.approx(wanted, abs=1e-8)
    assert index.scores([]).tolist() == [0] * 5


def test_coverage_is_the_share_of_rare_words() -> None:
    index = Lexical(TEXTS)
    dog, unicorn = math.log(1 + 3.5 / 2.5), math.log(1 + 5.5 / 0.5)
    assert index.coverage(["dog", "unicorn", "dog"], 1) == pytest.approx(dog / (dog + unicorn))
    assert (index.coverage(["dog"], 1), index.coverage(["dog"], 0), index.coverage([], 0)) == (1, 0, 0)


def test_texts_that_hold_a_phrase() -> None:
    index = Lexical([*TEXTS, "a ?! b", "category"])
    assert index.holding("Cat sat").tolist() == [0, 4]
    assert index.holding("sat cat").tolist() == []
    assert index.holding("unicorn").tolist() == []
    assert index.holding("?!").tolist() == [5]
    assert index.holding(" ").tolist() == []
    assert Lexical([]).holding("x").tolist() == []
    assert Lexical(["a bc", "b", "b"]).holding("a b").tolist() == [], "b is a part of a word there"


@given(st.lists(st.text("abc ", max_size=12), max_size=8), st.text("abc ", max_size=4))
def test_holding_is_what_a_search_in_each_text_finds(texts: list[str], phrase: str) -> None:
    def has(text: str) -> bool:
        own, wanted = text.split(), phrase.split()
        return bool(wanted) and any(own[i : i + len(wanted)] == wanted for i in range(len(own)))

    assert Lexical(texts).holding(phrase).tolist() == [i for i, text in enumerate(texts) if has(text)]


def shelf(*texts: str, named: dict[str, list[int]] | None = None) -> Shelf:
    made = passages([Document(text, f"{i}.md") for i, text in enumerate(texts)], words=1000)
    return Shelf(made, Lexical([p.text for p in made]), named or {})


PARCELS = (
    "A parcel takes five to seven working days, and nine in winter.", "A letter takes two days.",
    "You may send a parcel back within thirty days.", "Our shop opens at ten. It closes at six.",
    "The parcel office sells stamps and cards.",
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "right", "how"),
    [
        (example("How long does a parcel take?", "five to seven working days"), 0, "answer"),
        (example("How long does a letter take?", "two days"), 1, "answer"),
        (example("Within how many days may I send a parcel back?", "You have a month."), 2, "words"),
        (example("Anything?", "it closes at six"), 3, "answer"),
        (example("x", "y", metadata={"doc": "stamps"}), 4, "named"),
        (example("When may I send it back?", "thirty", metadata={"doc": "parcels"}), 2, "named"),
        (example("How long does a letter take?", "two days", metadata={"doc": None}), 1, "answer"),
    ],
)
def test_how_the_right_passage_is_found(row: Example, right: int, how: str) -> None:
    found = shelf(*PARCELS, named={"stamps": [4], "parcels": [0, 2, 4]}).find(row, ContextPlan(), key="doc")
    assert (found.right, found.how) == (right, how)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (example("Who is the queen of England?", "Nobody knows"), "no passage holds the answer"),
        (example("Who was the first emperor of Rome?", "ten"), "no passage holds the answer"),
        (example("x", "y", metadata={"doc": "absent"}), "none of the documents is called 'absent'"),
        (Example(messages=(*example("a", "b").messages, Message(role="tool", content="c"),
                           Message(role="assistant", content="d"))), "is not the user's"),
    ],
)  # fmt: skip
def test_rows_for_which_no_passage_is_right(row: Example, reason: str) -> None:
    with pytest.raises(NoPassageError, match=reason):
        shelf(*PARCELS).find(row, ContextPlan(), key="doc")


def test_distractors_are_the_hardest_without_the_answer() -> None:
    row = example("How many days does a parcel take?", "five to seven working days")
    found = shelf(*PARCELS, "Once more: five to seven working days for a parcel.").find(row, ContextPlan(passages=3))
    scores = Lexical([*PARCELS, ""]).scores(words("How many days does a parcel take? five to seven working days"))
    best = [int(i) for i in np.argsort(-scores[1:5], kind="stable") + 1][:3]
    assert found.right in (0, 5)
    assert list(found.distractors) == best
    assert {0, 5}.isdisjoint(found.distractors), "both hold the answer"


def test_the_row_keeps_what_it_had() -> None:
    turns = (
        Message(role="system", content="be kind"), Message(role="user", content="hello"),
        Message(role="assistant", content="hi", weight=0), Message(role="user", content="How long is a letter?"),
        Message(role="assistant", content="two days", reasoning_content="so"),
    )  # fmt: skip
    row = Example(messages=turns, metadata={"id": 7}, tools=({"x": 1},))
    plan, place = ContextPlan(passages=2), shelf(*PARCELS)
    found = place.find(row, plan)
    made = with_context(row, found, place, plan, answerable=True)
    assert (made.messages[:3], made.messages[4], made.tools) == (turns[:3], turns[4], row.tools)
    assert made.metadata["id"] == 7
    assert made.messages[3].content == (
        f"Answer the question from the context alone. If the context does not say, answer: {UNSAID}\n\nContext:\n\n"
        + "\n\n".join(f"[{n}] {PARCELS[int(p[0])]}" for n, p in enumerate(made.metadata["context_passages"], 1))
        + "\n\nQuestion: How long is a letter?"
    )
    without = with_context(row, found, place, plan, answerable=False)
    assert without.answer() == UNSAID
    assert without.metadata["context_answer"] == "two days"
    assert without.messages[-1] == Message(role="assistant", content=UNSAID)


WORD = st.sampled_from(["red", "blue", "cat", "dog", "runs", "sleeps", "here", "there", "two", "six"])
SENTENCE = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


@given(
    st.lists(SENTENCE, min_size=1, max_size=12), st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=8),
    st.integers(1, 5), st.floats(0, 1), st.integers(0, 99),
)  # fmt: skip
def test_the_right_passage_is_there_once_and_where_it_is_kept_back_no_passage_holds_the_answer(
    texts: list[str], pairs: list[tuple[str, str]], count: int, share: float, seed: int
) -> None:
    place, plan = shelf(*texts), ContextPlan(passages=count, unanswerable=share, seed=seed)
    kept = []
    for question, answer in pairs:
        row = example(question, answer)
        try:
            kept.append((row, place.find(row, plan)))
        except NoPassageError:
            continue
    back = unanswerable([found for _, found in kept], plan)
    able = [found for _, found in kept if found.distractors]
    assert len(back) == min(round(share * len(kept)), len(able))
    told = [p.text for p in place.passages]
    for number, (row, found) in enumerate(kept):
        made = with_context(row, found, place, plan, answerable=number not in back)
        shown = re.findall(r"^\[\d+\] (.*)$", str(made.messages[0].content), flags=re.M)
        assert len(set(shown)) == len(shown) == min(count, len(shown))
        assert set(shown) <= set(told)
        holds = [text for text in shown if f" {row.answer()} " in f" {text} "]
        if number in back:
            assert shown
            assert told[found.right] not in shown
            assert holds == []
        else:
            assert shown.count(told[found.right]) == 1
            assert set(holds) <= {told[found.right]}
            assert made.answer() == row.answer()
        again = with_context(row, found, place, plan, answerable=number not in back)
        assert again == made


def test_the_seed_decides_and_other_rows_do_not() -> None:
    place = shelf(*PARCELS)
    rows = [example(f"How long does parcel {i} take?", "five to seven working days") for i in range(60)]

    def orders(rows: list[Example], seed: int) -> tuple[dict[Any, Any], set[Any]]:
        plan = ContextPlan(seed=seed, unanswerable=0.25)
        found = [place.find(row, plan) for row in rows]
        made = [with_context(r, f, place, plan, answerable=True) for r, f in zip(rows, found, strict=True)]
        back = {rows[i].messages[0].content for i in unanswerable(found, plan)}
        return {r.messages[0].content: m.metadata["context_passages"] for r, m in zip(rows, made, strict=True)}, back

    first, back = orders(rows, 0)
    assert orders(rows, 0) == (first, back)
    assert orders(rows[::-1], 0) == (first, back)
    assert orders(rows, 1)[0] != first
    assert orders(rows, 1)[1] != back
    assert len(back) == 15
    some, _ = orders(rows[5:9], 0)
    assert all(first[question] == order for question, order in some.items())
    places = [order.index("0.md:1") for order in first.values()]
    assert set(places) == {0, 1, 2, 3}, "the right passage may stand anywhere"
