"""Who is answered next."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.inference.batcher import Turns, Waiting
from tunesmith.inference.errors import BusyError


def _waiting(*items: str) -> list[Waiting]:
    """`key model` each, numbered."""
    return [Waiting(item.split()[0], item.split()[1], number) for number, item in enumerate(items)]


def test_a_batch_is_of_one_model_and_takes_keys_in_turn() -> None:
    turns = Turns(10)
    turns.add(_waiting("a x", "a x", "a y", "b y", "b x", "c x"))
    first = turns.first()
    assert (first.key, first.model) == ("a", "x")
    assert [(w.key, w.work) for w in turns.take(4, lambda _: True)] == [("a", 0), ("b", 4), ("c", 5), ("a", 1)]
    assert turns.first().work == 3, "b's turn comes before a's second"
    assert [w.work for w in turns.take(9, lambda _: True)] == [3, 2]
    assert turns.first() is None
    assert turns.take(3, lambda _: True) == []


def test_all_or_none_are_let_in() -> None:
    turns = Turns(3)
    turns.add(_waiting("a x", "a x"))
    with pytest.raises(BusyError):
        turns.add(_waiting("b x", "b x"))
    assert len(turns) == 2
    assert [w.work for w in turns.drop(lambda w: w.work == 0)] == [0]
    turns.add(_waiting("b x", "b x"))
    assert [w.key for w in turns.take(5, lambda _: True)] == ["a", "b", "b"]


def test_what_does_not_fit_stays_first_and_nobody_overtakes_it() -> None:
    turns = Turns(9)
    turns.add(_waiting("a x", "b x", "c x"))
    assert [w.work for w in turns.take(9, lambda w: w.work != 1)] == [0]
    assert turns.first().work == 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")), max_size=60), st.integers(1, 5))
def test_nobody_is_lost_and_nobody_is_passed_over_for_long(items: list[tuple[str, str]], most: int) -> None:
    turns = Turns(100)
    waiting = [Waiting(key, model, number) for number, (key, model) in enumerate(items)]
    turns.add(waiting)
    left, served = set(range(len(items))), Counter[str]()
    order: list[str] = []
    while (first := turns.first()) is not None:
        heads = {key: min(n for n in left if items[n][0] == key) for key in {items[n][0] for n in left}}
        assert first.work == heads[first.key], "a key's own order holds for whose turn it is"
        taken = turns.take(most, lambda _: True)
        assert 1 <= len(taken) <= most
        assert {w.model for w in taken} == {first.model}
        assert first in taken
        order.append(first.key)
        for one in taken:
            left.remove(one.work)
            served[one.key] += 1
        assert len(turns) == len(left)
    assert not left
    for place, key in enumerate(order):
        later = order[place + 1 : place + 1 + len(set(items))]
        assert later.count(key) <= len(later)
