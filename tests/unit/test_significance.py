"""Tests of a difference, what many of them require, and how small a difference rows can show."""

import numpy as np
import pytest

from tunesmith.evaluation import gate
from tunesmith.evaluation.compare import MetricResult
from tunesmith.evaluation.config import GateSpec
from tunesmith.evaluation.metrics.label_f1 import LabelF1
from tunesmith.evaluation.metrics.over_rows import Scored, of_mean
from tunesmith.evaluation.power import detectable, power
from tunesmith.evaluation.significance import Difference, difference, holm_levels, mcnemar, permutation
from tunesmith.evaluation.stats import bootstrap, paired_bootstrap


def right(*pattern: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Base and tuned scores: (rows, base, tuned) each."""
    base, tuned = ([score for rows, *pair in pattern for score in [pair[i]] * rows] for i in (0, 1))
    return np.array(base, dtype=float), np.array(tuned, dtype=float)


def test_mcnemar_counts_the_rows_that_differ_alone():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(6, 0) == pytest.approx(2 / 64)
    assert mcnemar(3, 1) == pytest.approx(2 * (1 + 4) / 16)
    assert mcnemar(1, 3) == mcnemar(3, 1)
    few, many = (right((6, 0, 1), (agreeing, 1, 1)) for agreeing in (0, 500))
    found = [difference(*map(of_mean, pair), permutations=100, seed=0) for pair in (few, many)]
    assert found[0] == found[1] == Difference(2 / 64, "mcnemar")


def test_the_test_follows_the_scores():
    binary, shares = right((10, 0, 1), (5, 1, 1)), (np.full(15, 0.25), np.full(15, 0.75))
    weights = np.arange(1.0, 16.0)
    assert difference(*map(of_mean, binary), permutations=200, seed=0).test == "mcnemar"
    assert difference(*map(of_mean, shares), permutations=200, seed=0).test == "permutation"
    weighted = [of_mean(scores, weights) for scores in binary]
    assert difference(*weighted, permutations=200, seed=0).test == "permutation"


def test_the_permutation_test_of_few_rows_is_exact():
    base, tuned = np.zeros(5), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    # All five rose: of 32 ways to swap only two, none and all, are as far apart.
    assert permutation(of_mean(base), of_mean(tuned), permutations=10, seed=0) == 2 / 32
    assert permutation(of_mean(base), of_mean(base), permutations=10, seed=0) == 1
    assert permutation(of_mean(tuned), of_mean(base), permutations=10, seed=0) == 2 / 32


def test_a_drawn_p_is_never_zero_and_small_where_all_is_better():
    base = np.random.default_rng(0).random(100)
    p = permutation(of_mean(base), of_mean(base + 0.5), permutations=999, seed=0)
    assert p == 1 / 1000


def test_a_test_of_models_that_are_alike_errs_as_often_as_it_says():
    rng = np.random.default_rng(1)
    p_values = []
    for seed in range(300):
        base, tuned = rng.random((2, 40))
        p_values.append(permutation(of_mean(base), of_mean(tuned), permutations=199, seed=seed))
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.09)


def test_holm_holds_the_smallest_p_against_the_strictest_level():
    assert holm_levels([0.01, 0.04, 0.03], 0.05) == pytest.approx([0.05 / 3, 0.025, 0.025])
    # 0.01 passes at 0.05 / 3; 0.03 fails at 0.05 / 2, and behind a failure nothing is judged more mildly.
    assert holm_levels([0.01, 0.012, 0.03], 0.05) == pytest.approx([0.05 / 3, 0.025, 0.05])
    assert holm_levels([0.2, 0.001], 0.05) == pytest.approx([0.05, 0.025])
    assert holm_levels([0.04], 0.05) == [0.05]
    assert holm_levels([], 0.05) == []


def measured(name: str, base: np.ndarray, tuned: np.ndarray) -> MetricResult:
    both = of_mean(base), of_mean(tuned)
    chance = difference(*both, permutations=400, seed=0)
    return MetricResult(name, bootstrap(*both, resamples=2000, seed=0), chance)


def narrow(gain: int) -> tuple[np.ndarray, np.ndarray]:
    """200 rows of which the tuned model wins `gain` more than it loses."""
    return right((20 + gain, 0, 1), (20, 1, 0), (160 - gain, 1, 1))


def test_a_gate_on_several_metrics_widens_their_intervals():
    close = measured("close", *narrow(16))
    sure = measured("sure", *right((80, 0, 1), (120, 1, 1)))
    low = close.gain_low()
    alone = gate.judge(GateSpec(require={"close": low}), [close, sure], None)
    assert alone.passed
    assert "Holm" not in alone.reasons[0].text
    three = [close, sure, measured("other", *narrow(16))]
    both = gate.judge(GateSpec(require={"close": low, "sure": 0.1, "other": low}), three, None)
    assert [reason.ok for reason in both.reasons] == [False, True, False]
    assert "after Holm: 3 metrics are gated" in both.reasons[0].text
    assert close.gain_low(0.025) < low


def test_a_loss_is_gated_by_its_fall_after_holm_too():
    rng = np.random.default_rng(0)
    base = rng.gamma(4, 0.5, 100)
    falling = measured("loss", base, base - 0.3)
    verdict = gate.judge(GateSpec(require={"loss": 0.29, "x": 0.0}), [falling, measured("x", *narrow(60))], None)
    assert [reason.ok for reason in verdict.reasons] == [True, True]
    assert not gate.judge(GateSpec(require={"loss": 0.31}), [falling], None).passed


def test_an_interval_without_width_proves_nothing_by_itself():
    """Three rows that all changed the same way: the bootstrap has no spread, but chance does as much one time in 4."""
    few = measured("exact_match", *right((3, 0, 1)))
    assert few.figures.delta.pair == [1.0, 1.0]
    reason = gate.judge(GateSpec(max_forgetting=None), [few], None).reasons[0]
    assert not reason.ok
    assert "not surely better" in reason.text
    assert "p = 0.25" in reason.text
    assert gate.judge(GateSpec(max_forgetting=None), [measured("exact_match", *right((6, 0, 1)))], None).passed


def test_nothing_is_surely_better_whose_interval_holds_zero():
    unsure = measured("exact_match", *narrow(4))
    assert unsure.figures.delta.holds_zero
    reason = gate.judge(GateSpec(max_forgetting=None), [unsure], None).reasons[0]
    assert not reason.ok
    assert "not surely better" in reason.text


def test_120_rows_show_differences_of_9_points():
    """Where an eighth of the rows differ: the sentence of the documentation."""
    assert detectable(120, 0.12) == pytest.approx(0.09, abs=0.003)
    assert detectable(480, 0.12) == pytest.approx(0.045, abs=0.001)


@pytest.mark.parametrize(("rows", "scatter"), [(50, 0.1), (120, 0.3), (1000, 0.02), (6, 0.5), (120, 40.0)])
def test_the_least_difference_solves_its_equation(rows, scatter):
    d = detectable(rows, scatter)
    assert np.sqrt(rows) * d == pytest.approx(1.959964 * np.sqrt(scatter + d * d) + 0.841621 * np.sqrt(scatter))


def test_four_times_in_five_the_least_difference_is_found():
    """By simulation: McNemar's own test (not the exact one, which is stricter) on rows with that very difference."""
    rows, scatter = 400, 0.15
    d = detectable(rows, scatter)
    discordant = scatter + d * d
    rng = np.random.default_rng(0)
    won, lost, _ = rng.multinomial(rows, [(discordant + d) / 2, (discordant - d) / 2, 1 - discordant], size=20_000).T
    found = np.abs(won - lost) > 1.959964 * np.sqrt(won + lost)
    assert found.mean() == pytest.approx(0.8, abs=0.015)


def test_power_is_told_of_the_scatter_seen_and_never_of_none():
    told = power("exact_match", paired_bootstrap(*narrow(10), resamples=2000, seed=0), share=True)
    base, tuned = narrow(10)
    assert told.rows == 200
    assert told.scatter == pytest.approx(np.var(tuned - base), rel=0.1)
    assert told.detectable == pytest.approx(detectable(200, told.scatter))
    alike = power("exact_match", paired_bootstrap(base, base, resamples=200, seed=0), share=True)
    assert alike.detectable == pytest.approx(detectable(200, 3 / 200))
    few = power("exact_match", paired_bootstrap(base[:5], tuned[:5], resamples=200, seed=0), share=True)
    assert few.detectable is None
    assert (
        power("exact_match", paired_bootstrap(np.zeros(6), np.eye(6)[0], resamples=200, seed=0), share=True).detectable
        is None
    )


@pytest.mark.parametrize(
    ("rows", "before", "after"), [(20, 0.4, 0.6), (50, 0.5, 0.5), (100, 0.1, 0.9), (300, 0.8, 0.85)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(rows, before, after):
    """Of 1,000 drawn test sets 93 to 97 % must have the true difference inside the 95 % interval."""
    rng = np.random.default_rng(rows)
    held = 0
    for seed in range(1000):
        easy, luck = rng.random(rows), rng.random(rows)
        base = (easy < before).astype(float)
        tuned = (np.where(rng.random(rows) < 0.5, easy, luck) < after).astype(float)
        delta = paired_bootstrap(base, tuned, resamples=600, seed=seed).delta
        held += delta.low - 1e-9 <= after - before <= delta.high + 1e-9
    assert 930 <= held <= 970


def test_intervals_of_a_mean_per_token_hold_the_truth():
    rng = np.random.default_rng(8)
    held = 0
    for seed in range(1000):
        counts = rng.integers(1, 30, 60).astype(float)
        level = rng.normal(1.0, 0.3, 60)
        base, tuned = counts * level, counts * (level - 0.1 + rng.normal(0, 0.2, 60))
        delta = paired_bootstrap(base, tuned, counts, resamples=600, seed=seed).delta
        held += delta.low <= -0.1 <= delta.high
    assert 930 <= held <= 970


def test_intervals_of_macro_f1_hold_the_truth():
    """A figure that is no mean over rows; the truth is that of a million rows."""
    rng = np.random.default_rng(9)
    chances = (0.5, 0.3, 0.2)
    metric = LabelF1("macro_f1", ("a", "b", "c"))

    def draw(count: int) -> tuple[Scored, Scored]:
        truth = rng.choice(3, count, p=chances)
        found = []
        for skill in (0.5, 0.7):
            said = np.where(rng.random(count) < skill, truth, rng.choice(3, count, p=chances))
            cells = np.zeros((count, 3, 3))
            cells[np.arange(count), said, 0] = said == truth
            cells[np.arange(count), said, 1] = cells[np.arange(count), truth, 2] = 1
            found.append(Scored((said == truth).astype(float), cells.reshape(count, -1), metric.figure))
        return found[0], found[1]

    base, tuned = draw(1_000_000)
    true = tuned.value - base.value
    held = 0
    for seed in range(1000):
        delta = bootstrap(*draw(100), resamples=400, seed=seed).delta
        held += delta.low <= true <= delta.high
    assert 930 <= held <= 970, held
