"""Ways to ask, and what a table of ways says: never more than its intervals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tunesmith.core.messages import Example, Message
from tunesmith.evaluation.metrics.over_rows import of_mean
from tunesmith.evaluation.strategies import Plain, Shots, Way, break_even, recommend

HOW: dict[str, Any] = {"resamples": 500, "seed": 0}


def row(prompt: str, answer: str = "a", system: str | None = None) -> Example:
    opening = [Message(role="system", content=system)] if system else []
    said = [Message(role="user", content=prompt), Message(role="assistant", content=answer)]
    return Example(messages=tuple(opening + said))


def shown(messages: tuple[Message, ...]) -> list[str]:
    return [f"{m.role}: {m.content}" for m in messages]


POOL = [row("the lamp is broken", "warranty"), row("where is my parcel", "tracking"), row("cancel the order", "cancel")]


def test_a_plain_prompt_is_the_rows_own_under_another_system_message() -> None:
    asked = row("where is it", system="be brief")
    assert shown(Plain().messages(asked, lambda _: True)) == ["system: be brief", "user: where is it"]
    assert shown(Plain(system="be kind").messages(asked, lambda _: True)) == ["system: be kind", "user: where is it"]


def test_the_nearest_example_stands_last_and_no_answer_of_the_row_is_shown() -> None:
    asked = row("where is the parcel of my lamp", "secret", system="be brief")
    made = shown(Shots(POOL, 2, nearest=True, seed=0).messages(asked, lambda _: True))
    assert made[0] == "system: be brief"
    assert made[-3:] == ["user: where is my parcel", "assistant: tracking", "user: where is the parcel of my lamp"]
    assert len(made) == 1 + 4 + 1
    assert not any("secret" in text for text in made)


def test_random_examples_are_the_same_for_every_row_and_drawn_by_the_seed() -> None:
    pool = [row(f"question {i}", str(i)) for i in range(50)]
    made = [
        shown(Shots(pool, 3, nearest=False, seed=seed).messages(row(asked), lambda _: True))[:-1]
        for seed, asked in ((0, "x"), (0, "y"), (1, "x"))
    ]
    assert made[0] == made[1] != made[2]


def test_examples_without_room_are_left_out_the_farthest_first() -> None:
    asked = row("where is my parcel")
    made = shown(Shots(POOL, 3, nearest=True, seed=0).messages(asked, lambda messages: len(messages) <= 3))
    assert made == ["user: where is my parcel", "assistant: tracking", "user: where is my parcel"]
    assert shown(Shots(POOL, 3, nearest=True, seed=0).messages(asked, lambda _: False)) == ["user: where is my parcel"]


def way(name: str, right: int, *, tuned: bool = False, documents: bool = False, cost: float | None = None) -> Way:
    scores = np.array([1.0] * right + [0.0] * (100 - right))
    return Way(
        name, {"exact_match": of_mean(scores)}, 50.0, 10.0, 0.1, cost=cost, set_up=5.0 if tuned else 0.0, tuned=tuned,
        documents=documents,
    )  # fmt: skip


def test_what_is_surely_best_is_taken_with_its_reason() -> None:
    found = recommend([way("prompt", 10), way("4-shot random", 15), way("fine-tuned", 80, tuned=True)], **HOW)
    assert (found.best, found.take, found.ties) == ("fine-tuned", "fine-tuned", ())
    assert any("training helps" in reason and "skill or a format" in reason for reason in found.reasons)


def test_what_needs_no_training_is_taken_where_training_is_not_surely_better() -> None:
    tuned = way("fine-tuned", 80, tuned=True)
    other = np.array([0.0] * 22 + [1.0] * 78)  # right on other rows, so that the difference is not sure
    prompt = Way("prompt", {"exact_match": of_mean(other)}, 50.0, 10.0, 0.1)
    found = recommend([prompt, tuned], **HOW)
    assert (found.best, found.take, found.ties) == ("fine-tuned", "prompt", ("prompt",))
    assert any("may be as good" in reason for reason in found.reasons)
    assert any("whether training helps is not shown" in reason for reason in found.reasons)


def test_facts_are_for_retrieval() -> None:
    ways = [
        way("prompt", 5), way("retrieval", 40, documents=True), way("fine-tuned", 10, tuned=True),
        way("fine-tuned + retrieval", 90, tuned=True, documents=True),
    ]  # fmt: skip
    found = recommend(ways, **HOW)
    assert found.take == "fine-tuned + retrieval"
    assert any("retrieval helps" in reason and "facts" in reason for reason in found.reasons)
    assert any("training helps" in reason for reason in found.reasons)


def test_facts_that_changed_are_named_where_learned_answers_are_wrong() -> None:
    alone = way("fine-tuned", 10, tuned=True)
    both = way("fine-tuned + retrieval", 90, tuned=True, documents=True)
    found = recommend([replace(alone, outdated=72), both], **HOW)
    assert found.take == "fine-tuned + retrieval"
    assert any("72 of 100 rows" in reason and "facts have changed" in reason for reason in found.reasons)
    few = recommend([replace(alone, outdated=9), both], **HOW)
    unsure = recommend([replace(alone, outdated=72), way("retrieval", 12, documents=True)], **HOW)
    assert not any("facts have changed" in reason for reason in (*few.reasons, *unsure.reasons))


def test_of_equals_the_cheaper_one_is_taken() -> None:
    assert recommend([way("a", 50, cost=2.0), way("b", 50, cost=1.0)], **HOW).take == "b"


def test_of_equals_without_a_price_the_smaller_model_is_taken() -> None:
    tuned, small = (
        replace(way(name, 50, tuned=True), memory=mb) for name, mb in (("tuned", 40.0), ("distilled", 20.0))
    )
    assert recommend([tuned, small], **HOW).take == "distilled"


def test_the_break_even_is_hand_worked() -> None:
    """5 of training, and 1 of money saved in 1,000 answers: paid after 5,000 answers."""
    tuned, prompt = way("fine-tuned", 80, tuned=True, cost=1.0), way("prompt", 10, cost=2.0)
    assert break_even(tuned, prompt) == pytest.approx(5000)
    assert break_even(prompt, tuned) is None
    assert break_even(way("x", 1), prompt) is None


def test_what_needs_no_training_and_is_cheaper_is_so_from_the_first_answer() -> None:
    tuned, shots = way("fine-tuned", 80, tuned=True, cost=2.0), replace(way("2-shot", 10, cost=1.0), set_up=0.0)
    assert break_even(shots, tuned) == 0
