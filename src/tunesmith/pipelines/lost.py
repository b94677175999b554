"""Why is this row wrong? Of every test row that the tuned model does not get right: the training rows that it had to go
by, whether these contradict each other, and what kind of row is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..core.messages import Example
from ..evaluation.neighbour import NEAR, Near, Neighbours

Reason = Literal["nothing_near", "contradicted", "near_but_wrong"]
COUNT = 3
FILE = "lost-rows.jsonl"
ADVICE: dict[Reason, str] = {
    "nothing_near": "no training row asks anything like it: add rows of this kind",
    "contradicted": "training rows that ask nearly the same have different answers: decide on one",
    "near_but_wrong": "training rows like it are there: add more of them, train longer, or look whether they are right",
}


@dataclass(frozen=True)
class Pull:
    """How a training row, by its place, pulls a test row: the cosine of their gradients and their product. Above 0 it
    pulls towards the right answer, below 0 away from it."""

    place: int
    cosine: float
    dot: float


@dataclass(frozen=True)
class Lost:
    """A test row, by its place, and what of the training rows speaks to it."""

    place: int
    reason: Reason
    near: tuple[Near, ...]
    contradicting: tuple[int, ...]
    """Places of those among `near` and `pulls` that contradict each other."""
    pulls: tuple[Pull, ...] = ()
    """The most influential, where they were asked for."""


def lost(train: Sequence[Example], test: Sequence[Example], wrong: Sequence[int]) -> list[Lost]:
    """For the test rows at the places `wrong`, in this order."""
    if not wrong or not len(train):
        return []
    neighbours, found = Neighbours(train), []
    for place, near in zip(wrong, neighbours.of([test[i] for i in wrong], COUNT), strict=True):
        close = [one for one in near if one.similarity >= NEAR]
        odd = neighbours.contradicting(close)
        reason: Reason = "contradicted" if odd else "near_but_wrong" if close else "nothing_near"
        found.append(Lost(place, reason, tuple(close), tuple(odd)))
    return found


def facts(found: Sequence[Lost], train: Sequence[Example]) -> dict[int, dict[str, Any]]:
    """`lost` of a row in predictions.jsonl, by the row's place."""
    return {
        one.place: {
            "reason": one.reason,
            "advice": ADVICE[one.reason],
            "near": [
                {
                    "source": train[near.place].origin, "similarity": round(near.similarity, 3),
                    "answer": train[near.place].answer(), "contradicted": near.place in one.contradicting,
                }
                for near in one.near
            ],
        }
        | ({"influential": influential(one, train)} if one.pulls else {})
        for one in found
    }  # fmt: skip


def influential(one: Lost, train: Sequence[Example]) -> list[dict[str, Any]]:
    """The training rows that pull the row away from its right answer, then those that pull towards it."""
    return [
        {
            "source": train[pull.place].origin, "pulls": "towards" if pull.cosine > 0 else "away",
            "similarity": round(pull.cosine, 4), "product": pull.dot, "answer": train[pull.place].answer(),
            "contradicted": pull.place in one.contradicting,
        }
        for pull in one.pulls
    ]  # fmt: skip


def counts(found: Sequence[Lost]) -> dict[str, int]:
    """How many rows are lost for each reason: `lost` of evaluation.json."""
    told = Counter(one.reason for one in found)
    return {reason: told[reason] for reason in ADVICE}


def rows(
    found: Sequence[Lost], train: Sequence[Example], test: Sequence[Example], answers: Sequence[str]
) -> list[dict[str, Any]]:
    """Lines of `lost-rows.jsonl`: chat rows with the right answer, and which training rows to look at. They are test
    rows: who trains on them needs others to test on."""
    return [
        {
            "messages": [
                *(message.template_form() for message in test[one.place].prompt()),
                {"role": "assistant", "content": test[one.place].answer()},
            ],
            "source": test[one.place].origin, "reason": one.reason, "said": answers[one.place],
        }
        | ({"influential": influential(one, train)} if one.pulls else {})
        for one in found
    ]  # fmt: skip
