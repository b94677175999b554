"""Why a row is wrong: what the training rows had for it."""

from __future__ import annotations

import pytest

from tunesmith.core.messages import Example, Message
from tunesmith.evaluation.neighbour import Near, Neighbours, copied_answers
from tunesmith.pipelines.lost import ADVICE, counts, facts, lost, rows


def row(prompt: str, answer: str, origin: str = "f:1") -> Example:
    said = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Example(messages=said, origin=origin)


WAITING = "where is my parcel today I have been waiting for it since the last {} and nobody at the shop answers me"
TRAIN = [
    row(WAITING.format("week"), "tracking", "t:1"),
    row(WAITING.format("month"), "refund", "t:2"),
    row("the lamp does not light up any more", "warranty", "t:3"),
    row("please cancel the order of the lamp", "cancel", "t:4"),
]


def test_the_nearest_come_first_with_their_likeness() -> None:
    [near] = Neighbours(TRAIN).of([row(WAITING.format("week"), "x")], 3)
    assert [one.place for one in near][:2] == [0, 1]
    assert near[0].similarity == pytest.approx(1)
    assert near[0].similarity > near[1].similarity > near[2].similarity
    assert copied_answers(TRAIN, [row("my lamp does not light", "x")]) == ["warranty"]


def test_without_a_word_every_row_is_as_near() -> None:
    assert Neighbours([row("!", "a"), row("?", "b")]).of([row("where", "x")], 2) == [[Near(0, 0.0), Near(1, 0.0)]]
    assert Neighbours([row("!", "a"), row("?", "b")]).contradicting([Near(0, 0.0), Near(1, 0.0)]) == []


def test_each_wrong_row_has_its_reason() -> None:
    test = [
        row("how do I become a pilot", "career"),
        row(WAITING.format("year"), "tracking", "v:2"),
        row("the lamp does not light up", "warranty"),
    ]
    found = lost(TRAIN, test, [0, 1, 2])
    assert [one.reason for one in found] == ["nothing_near", "contradicted", "near_but_wrong"]
    assert counts(found) == dict.fromkeys(ADVICE, 1)
    told = facts(found, TRAIN)[1]
    assert [(near["source"], near["contradicted"]) for near in told["near"]][:2] == [("t:1", True), ("t:2", True)]
    assert facts(found, TRAIN)[0]["near"] == []
    assert lost(TRAIN, test, []) == []


def test_prompts_that_are_alike_with_the_same_answer_contradict_nothing() -> None:
    agreed = [row(WAITING.format("week"), "tracking"), row(WAITING.format("month"), " tracking ")]
    [found] = lost(agreed, [row(WAITING.format("year"), "x")], [0])
    assert (found.reason, found.contradicting) == ("near_but_wrong", ())


def test_lost_rows_are_chat_rows_with_the_right_answer() -> None:
    test = [row("a b", "right", "v:1"), row("c d", "right too", "v:2")]
    [told] = rows(lost(TRAIN, test, [1]), TRAIN, test, ["said a", "said c"])
    assert told["messages"] == [{"role": "user", "content": "c d"}, {"role": "assistant", "content": "right too"}]
    assert (told["source"], told["said"], told["reason"]) == ("v:2", "said c", "nothing_near")
