"""Whether certainty is earned, and what accuracy hides, by hand and by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score

from tunesmith.evaluation.calibration import BINS, calibration, of_answers, of_labels
from tunesmith.evaluation.classes import classes


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_by_hand() -> None:
    """Sure by 0.8 of four pairs, right on three: |0.75 - 0.8| = 0.05. Sure by 0.61 of one, wrong: 0.61.
    ECE = (4 x 0.05 + 1 x 0.61) / 5 = 0.162; Brier = (3 x 0.2^2 + 0.8^2 + 0.61^2) / 5 = 0.22642."""
    chosen = np.array([_logit(0.8)] * 3 + [_logit(0.2), _logit(0.39)])
    found = calibration(chosen, np.zeros(5))
    assert found.ece == pytest.approx(0.162)
    assert found.brier == pytest.approx(0.22642)
    assert [(one.low, one.pairs) for one in found.bins] == [(0.6, 1), (0.8, 4)]
    assert found.bins[1].accuracy == pytest.approx(0.75)
    assert found.bins[1].certainty == pytest.approx(0.8)


def test_brier_is_scikit_learn_s_whichever_side_is_asked() -> None:
    draw = np.random.default_rng(0)
    difference = draw.normal(size=200)
    side = draw.random(200) < 0.5
    p = 1 / (1 + np.exp(-np.where(side, difference, -difference)))
    assert calibration(difference, np.zeros(200)).brier == pytest.approx(brier_score_loss(side, p))


def test_a_model_that_knows_how_sure_it_is_has_a_small_error_and_a_boaster_a_large_one() -> None:
    draw = np.random.default_rng(1)
    truth = draw.normal(scale=1.5, size=20_000)
    won = draw.random(20_000) < 1 / (1 + np.exp(-truth))
    honest = np.where(won, truth, -truth)
    assert calibration(honest, np.zeros(20_000)).ece < 0.02
    assert calibration(4 * honest, np.zeros(20_000)).ece > 0.1


def test_ties_and_extremes() -> None:
    found = calibration(np.array([0.0, 1e4, -1e4]), np.array([0.0, -1e4, 1e4]))
    assert [(one.certainty, one.accuracy, one.pairs) for one in found.bins] == [(0.5, 0.5, 1), (1.0, 0.5, 2)]
    assert found.bins[1].high == pytest.approx(1.0)
    assert len(found.bins) <= BINS
    assert found.brier == pytest.approx((0.25 + 0 + 1) / 3)


def test_classes_by_hand() -> None:
    """Truth a a a b, said a a b b: a has precision 1, recall 2/3, F1 0.8; b 1/2, 1, 2/3; c is nowhere."""
    truth, said = np.array([0.0, 0, 0, 1]), np.array([0.0, 0, 1, 1])
    found = classes(truth, said, ("a", "b", "c"))
    assert [(one.label, one.rows) for one in found.labels] == [("a", 3), ("b", 1)]
    assert [one.precision for one in found.labels] == [1.0, 0.5]
    assert [one.recall for one in found.labels] == [pytest.approx(2 / 3), 1.0]
    assert found.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert found.macro_f1 == pytest.approx(f1_score(truth, said, average="macro"))
    assert found.confusions == [("a", "b", 1)]


def test_the_most_frequent_confusion_comes_first() -> None:
    truth, said = np.array([0.0, 0, 1, 2, 2, 2, 2]), np.array([1.0, 1, 1, 0, 0, 0, 2])
    assert classes(truth, said, "abc").confusions == [("c", "a", 3), ("a", "b", 2)]


def test_answers_are_binned_over_all_certainties_and_brier_is_hand_worked() -> None:
    found = of_answers(np.array([0.05, 0.95, 0.85, 1.0]), np.array([False, True, False, True]))
    assert [(one.low, one.high, one.pairs) for one in found.bins] == [(0.0, 0.1, 1), (0.8, 0.9, 1), (0.9, 1.0, 2)]
    assert found.brier == pytest.approx((0.05**2 + 0.05**2 + 0.85**2 + 0) / 4)
    assert found.ece == pytest.approx((0.05 + 0.85 + 2 * 0.025) / 4)


def test_labels_have_briers_sum_and_an_unknown_truth_is_never_right() -> None:
    probability = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    found = of_labels(probability, np.array([0, 2]))
    assert found.brier == pytest.approx((0.09 + 0.04 + 0.01 + 0.01 + 0.36 + 0.49) / 2)
    assert [(one.certainty, one.accuracy) for one in found.bins] == [(0.6, 0.0), (0.7, 1.0)]
    unknown = of_labels(probability[:1], np.array([-1]))
    assert unknown.brier == pytest.approx(0.49 + 0.04 + 0.01 + 1)
    assert unknown.bins[0].accuracy == 0


def test_a_model_whose_certainty_is_earned_has_no_error() -> None:
    draw = np.random.default_rng(0)
    certainty = draw.uniform(size=200_000)
    assert of_answers(certainty, draw.uniform(size=200_000) < certainty).ece < 0.01
    assert of_answers(certainty, draw.uniform(size=200_000) < certainty**3).ece > 0.1
