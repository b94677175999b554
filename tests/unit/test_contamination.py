"""Whether a base has seen the test rows: what its losses show, and what chance shows."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.evaluation.contamination import facts
from tunesmith.pipelines.report_tables import tables


def losses(rows: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4.0, 0.5, size=rows) - shift


def test_rows_of_one_kind_are_seldom_suspected() -> None:
    suspected = 0
    for seed in range(60):
        found = facts(losses(200, seed), losses(100, 1000 + seed), seed)
        assert found is not None
        suspected += found["suspected"]
    assert suspected <= 5, "one in twenty or so"


def test_a_base_that_finds_all_test_rows_likelier_is_suspected() -> None:
    found = facts(losses(200, 0), losses(100, 1, shift=0.6), 0)
    assert found is not None
    assert found["suspected"]
    assert found["auc"] > 0.6
    assert found["ci95"][0] > 0.5


def test_a_few_rows_that_it_knows_by_heart_are_named() -> None:
    test = losses(100, 1)
    test[[7, 40, 71, 90, 93]] = [0.02, 0.01, 0.03, 0.04, 0.05]
    found = facts(losses(300, 0), test, 0)
    assert found is not None
    assert found["suspected"]
    assert found["far_likelier"] >= 5
    assert found["indices"][:5] == [40, 7, 71, 90, 93]
    assert found["ci95"][0] <= 0.5 <= found["ci95"][1], "as a whole they are like the others"
    (table,) = tables({"contamination": found})
    assert "41, 8, 72, 91, 94" in table.note, "rows are counted from 1"


@pytest.mark.parametrize(("train", "test"), [(10, 100), (100, 10)])
def test_few_rows_say_nothing(train: int, test: int) -> None:
    assert facts(losses(train, 0), losses(test, 1), 0) is None
