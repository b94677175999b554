"""Learning-rate schedules by hand."""

import pytest

from tunesmith.engine.schedule import factor


@pytest.mark.parametrize(
    ("kind", "step", "expected"),
    [
        ("wsd", 0, 1 / 3),  # warm-up of two steps
        ("wsd", 2, 1.0),
        ("wsd", 15, 1.0),
        ("wsd", 16, 1.0),  # the last fifth of 20 steps begins
        ("wsd", 18, 0.5),
        ("wsd", 19, 0.25),
        ("linear", 11, 0.5),
        ("cosine", 11, 0.5),
        ("constant", 19, 1.0),
    ],
)
def test_factor(kind: str, step: int, expected: float) -> None:
    assert factor(kind, step, 20, 2) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_the_floor_is_where_it_ends(kind: str) -> None:
    assert factor(kind, 20, 20, 2, floor=0.1) == pytest.approx(0.1)
    assert factor(kind, 2, 20, 2, floor=0.1) == pytest.approx(1.0)
