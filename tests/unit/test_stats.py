"""The paired bootstrap on cases whose result is known beforehand."""

import numpy as np
import pytest

from tunesmith.evaluation.stats import paired_bootstrap


def test_equal_models_differ_by_nothing():
    scores = np.random.default_rng(0).random(50)
    result = paired_bootstrap(scores, scores, resamples=300, seed=0)
    assert (result.delta.value, result.delta.low, result.delta.high) == (0, 0, 0)
    assert result.base == result.tuned


def test_a_constant_gain_is_certain_though_the_scores_are_not():
    base = np.random.default_rng(0).random(50)
    result = paired_bootstrap(base, base + 0.25, resamples=300, seed=0)
    assert result.delta.low == pytest.approx(0.25)
    assert result.delta.high == pytest.approx(0.25)
    assert result.base.high - result.base.low > 0.05


def test_values_are_those_of_the_sample_not_of_the_resamples():
    base, tuned = np.array([0.0, 1, 0, 1]), np.array([1.0, 1, 0, 1])
    result = paired_bootstrap(base, tuned, resamples=100, seed=0)
    assert (result.base.value, result.tuned.value, result.delta.value) == (0.5, 0.75, 0.25)


def test_weights_make_it_a_mean_per_token():
    result = paired_bootstrap(np.array([10.0, 2]), np.array([5.0, 1]), np.array([10.0, 1]), resamples=100, seed=0)
    assert result.base.value == pytest.approx(12 / 11)
    assert result.tuned.value == pytest.approx(6 / 11)


def test_the_transform_is_applied_to_the_figure():
    sums, counts = np.array([3.0, 5, 4]), np.array([2.0, 2, 2])
    plain = paired_bootstrap(sums, sums / 2, counts, resamples=200, seed=1)
    exp = paired_bootstrap(sums, sums / 2, counts, resamples=200, seed=1, transform=np.exp)
    assert exp.base.value == pytest.approx(np.exp(plain.base.value))
    assert exp.delta.value == pytest.approx(np.exp(1.0) - np.exp(2.0))


def test_a_seed_gives_the_same_interval_and_another_seed_another():
    base, tuned = (np.random.default_rng(s).random(40) for s in (0, 1))
    one = paired_bootstrap(base, tuned, resamples=500, seed=7)
    assert one == paired_bootstrap(base, tuned, resamples=500, seed=7)
    assert one.delta.pair != paired_bootstrap(base, tuned, resamples=500, seed=8).delta.pair


def test_a_single_row_has_no_width():
    result = paired_bootstrap(np.array([0.0]), np.array([1.0]), resamples=100, seed=0)
    assert result.delta.pair == [1.0, 1.0]
