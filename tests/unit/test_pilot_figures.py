"""Successive halving and learning curves: what is planned, and what is forecast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunesmith.evaluation.halving import Cost, rows_within, rungs
from tunesmith.evaluation.learning_curve import Point, forecast
from tunesmith.evaluation.metrics.over_rows import of_mean

HOW: dict[str, Any] = {"resamples": 400, "seed": 0}


@pytest.mark.parametrize(
    ("candidates", "sizes"), [(1, [1]), (2, [2]), (3, [3]), (4, [4, 2]), (12, [12, 4, 2]), (27, [27, 9, 3])]
)
def test_a_third_goes_on_until_few_are_left(candidates: int, sizes: list[int]) -> None:
    assert rungs(candidates) == sizes


def test_rows_follow_from_the_time_that_fixed_costs_leave() -> None:
    costs = [Cost(fixed=10, row=0.1), Cost(fixed=20, row=0.3)]
    assert rows_within(70, costs, most=1000) == 100  # 30 s are fixed, and 0.4 s a row for both
    assert rows_within(70, costs, most=60) == 60
    assert rows_within(25, costs, most=1000) == 0


def points(errors: list[float], tested: int = 400) -> list[Point]:
    """Models with these errors; a model that is better is right wherever the others are."""
    rank = np.random.default_rng(1).permutation(tested) / tested
    return [Point(100 * 2**i, of_mean((rank >= error).astype(np.float64))) for i, error in enumerate(errors)]


def test_an_error_that_halves_with_every_doubling_halves_again() -> None:
    found = forecast(points([0.8, 0.4, 0.2]), lower=False, **HOW)
    assert found is not None
    assert (found.rows, found.value) == (800, pytest.approx(0.9, abs=1e-9))
    assert found.gain.value == pytest.approx(0.1, abs=1e-9)
    assert 0 < found.gain.low < 0.1 < found.gain.high
    assert found.words("accuracy").startswith("800 rows would bring accuracy to about 0.900")


def test_a_loss_is_its_own_error() -> None:
    losses = [Point(100 * 2**i, of_mean(np.full(50, 2.0 / 2**i))) for i in range(3)]
    found = forecast(losses, lower=True, **HOW)
    assert found is not None
    assert found.value == pytest.approx(0.25)
    assert found.gain.value == pytest.approx(0.25)


def test_a_flat_curve_promises_nothing_and_a_falling_one_says_so() -> None:
    flat = forecast(points([0.300, 0.305, 0.300]), lower=False, **HOW)
    assert flat is not None
    assert flat.gain.holds_zero
    assert flat.gain.low == flat.gain.high == 0
    assert "is not shown" in flat.words("accuracy")
    worse = forecast(points([0.1, 0.3, 0.6]), lower=False, **HOW)
    assert worse is not None
    assert "have not helped" in worse.words("accuracy")


def test_two_sizes_are_no_curve_and_no_error_is_not_infinitely_little() -> None:
    assert forecast(points([0.4, 0.2]), lower=False, **HOW) is None
    done = forecast(points([0.4, 0.1, 0.0]), lower=False, **HOW)
    assert done is not None
    assert 0 <= done.gain.value < 0.5 / 400
