"""Metrics and intervals beside references written or worked out by others."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from tunesmith.evaluation.metrics import named
from tunesmith.evaluation.stats import paired_bootstrap

# Worked by hand after Rajpurkar et al. 2016: lower case, punctuation away, a/an/the away, F1 of the word multisets.
SQUAD = [
    ("the cat", "cat", 1.0),
    ("The Cat!", "a cat", 1.0),
    ("cat sat", "cat", 2 / 3),  # precision 1/2, recall 1
    ("cat", "cat sat mat", 1 / 2),  # precision 1, recall 1/3
    ("cat cat", "cat", 2 / 3),  # a word counts as often as it stands there
    ("dog", "cat", 0.0),
    ("", "cat", 0.0),
    ("the", "cat", 0.0),
    ("", "", 1.0),
    ("the", "an", 1.0),
    ("U.S.A.", "usa", 1.0),
    ("well-known", "wellknown", 1.0),
    ("another theme", "another theme", 1.0),  # articles are whole words
    ("1,000 men", "1000 men and women", 2 / 3),  # precision 1, recall 1/2
    ("on the mat", "the mat on", 1.0),  # order does not count
]


@pytest.mark.parametrize(("prediction", "reference", "score"), SQUAD)
def test_token_f1_on_the_hand_worked_table(prediction, reference, score):
    assert named("token_f1").score(prediction, reference) == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "reference", "longest"),
    [
        ("police kill the gunman", "police killed the gunman", 3),  # Lin 2004, section 3
        ("the gunman kill police", "police killed the gunman", 2),
        ("the gunman police killed", "police killed the gunman", 2),
        ("a b c d e", "e d c b a", 1),
        ("x", "police killed the gunman", 0),
    ],
)
def test_rouge_l_is_the_longest_common_subsequence(prediction, reference, longest):
    m, n = len(prediction.split()), len(reference.split())
    f = 2 * longest / (m + n)
    assert named("rouge_l").score(prediction, reference) == pytest.approx(f)
    library = RougeScorer(["rougeL"]).score(reference, prediction)["rougeL"]
    assert named("rouge_l").score(prediction, reference) == library.fmeasure


def test_rouge_l_does_not_stem():
    assert named("rouge_l").score("killing", "killed") == 0


def widened(rows):
    """The confidence of a plain percentile interval that is as wide as ours (Hesterberg 2015, section 5.3)."""
    stats = pytest.importorskip("scipy.stats")
    return 1 - 2 * stats.norm.cdf(np.sqrt(rows / (rows - 1)) * stats.t.ppf(0.025, rows - 1))


def test_the_widening_is_of_few_rows():
    assert widened(10) == pytest.approx(0.983, abs=0.001)
    assert widened(1000) == pytest.approx(0.9502, abs=0.0002)


def test_intervals_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    base = (rng.random(80) < 0.4).astype(float)
    tuned = np.clip(base + (rng.random(80) < 0.3) - (rng.random(80) < 0.1), 0, 1).astype(float)
    ours = paired_bootstrap(base, tuned, resamples=8000, seed=0)

    def difference(b, t, axis):
        return t.mean(axis) - b.mean(axis)

    theirs = stats.bootstrap(
        (base, tuned),
        difference,
        paired=True,
        vectorized=True,
        n_resamples=8000,
        method="percentile",
        rng=1,
        confidence_level=widened(80),
    ).confidence_interval
    assert ours.delta.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.delta.high == pytest.approx(theirs.high, abs=0.01)
    # Unpaired resampling would be wider: the pairing must be there.
    error = np.sqrt((base.var() + tuned.var()) / 80)
    assert ours.delta.high - ours.delta.low < 0.9 * 2 * 1.96 * error


def test_intervals_of_a_mean_per_token_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 40, size=60).astype(float)
    base, tuned = counts * rng.gamma(4, 0.5, 60), counts * rng.gamma(4, 0.3, 60)
    ours = paired_bootstrap(base, tuned, counts, resamples=8000, seed=0)

    def ratio(values, weights, axis):
        return values.sum(axis) / weights.sum(axis)

    for values, interval in ((base, ours.base), (tuned, ours.tuned)):
        theirs = stats.bootstrap(
            (values, counts),
            ratio,
            paired=True,
            vectorized=True,
            n_resamples=8000,
            method="percentile",
            rng=1,
            confidence_level=widened(60),
        ).confidence_interval
        width = theirs.high - theirs.low
        assert interval.low == pytest.approx(theirs.low, abs=0.06 * width)
        assert interval.high == pytest.approx(theirs.high, abs=0.06 * width)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(300):
        base = (rng.random(100) < 0.4).astype(float)
        tuned = np.where(rng.random(100) < 0.5, base, rng.random(100) < 0.6).astype(float)
        delta = paired_bootstrap(base, tuned, resamples=300, seed=seed).delta
        hits += delta.low <= 0.5 * 0.6 + 0.5 * 0.4 - 0.4 <= delta.high
    assert 0.90 <= hits / 300 <= 0.985
