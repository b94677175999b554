"""Ratings: sides and order, verdicts against hand-worked numbers, and files that survive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from answered import run
from tunesmith.core.errors import ConflictError, ContentError, UsageError
from tunesmith.data.load import load
from tunesmith.evaluation.rating import Pair, agreement, choices, shown
from tunesmith.pipelines import rate

NAMES = ("base", "tuned")


def pair(number: int, base: str = "no", tuned: str = "yes") -> Pair:
    return Pair(({"role": "user", "content": f"question {number}"},), NAMES, (f"{base} {number}", f"{tuned} {number}"))


def test_each_rater_sees_every_pair_once_on_sides_drawn_by_seed_and_rater() -> None:
    pairs = [pair(i) for i in range(200)]
    seen = {who: shown(pairs, who, seed) for who, seed in (("ann", 0), ("bo", 0), ("ann again", 1))}
    orders = {who: [one.pair.key for one in order] for who, order in seen.items()}
    assert all(sorted(order) == sorted(one.key for one in pairs) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 3
    assert shown(pairs, "ann", 0) == seen["ann"]
    left = sum(one.left[0] == "tuned" for one in seen["ann"])
    assert 70 < left < 130, "one side has one model"
    assert all({one.left, one.right} == set(zip(NAMES, one.pair.answers, strict=True)) for one in seen["bo"])


def test_equal_answers_are_not_shown() -> None:
    same = Pair(({"role": "user", "content": "q"},), NAMES, ("an answer", " an answer\n"))
    assert shown([same, pair(1)], "ann", 0)[0].pair == pair(1)
    assert len(shown([same, pair(1)], "ann", 0)) == 1


def test_the_sign_test_is_the_hand_worked_one() -> None:
    """Nine of ten decided pairs: p = 2 * (C(10,0) + C(10,1)) / 2^10 = 22/1024."""
    found = choices(NAMES, ["tuned"] * 9 + ["base"] + ["tie"] * 5)
    assert found.p == pytest.approx(22 / 1024)
    assert (found.first, found.second, found.ties, found.share, found.better) == (1, 9, 5, 0.9, "tuned")
    assert found.ci95 == pytest.approx((0.5550, 0.9975), abs=1e-4)
    assert found.words().startswith("tuned is preferred")
    undecided = choices(NAMES, ["tuned"] * 8 + ["base"] * 2)
    assert undecided.p == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert undecided.better is None
    assert undecided.words().startswith("no preference is shown")
    assert choices(NAMES, ["tie"]).p is None


def test_kappa_is_the_hand_worked_one() -> None:
    """Ten pairs, alike in six; each rater says a in half of them: chance 0.5, kappa (0.6 - 0.5) / 0.5 = 0.2."""
    first = dict(zip("0123456789", "aaaaabbbbb", strict=True))
    second = dict(zip("0123456789", "aaaabbbbba", strict=True)) | {"3": "b", "8": "b", "5": "a"}
    found = agreement(("x", "y"), first, second | {"elsewhere": "a"})
    assert found is not None
    assert (found.pairs, sum(v == "a" for v in second.values())) == (10, 5)
    assert found.same == pytest.approx(0.6)
    assert found.kappa == pytest.approx(0.2)
    assert agreement(("x", "y"), first, {"elsewhere": "a"}) is None
    alike = agreement(("x", "y"), {"1": "a"}, {"1": "a"})
    assert alike is not None
    assert (alike.same, alike.kappa) == (1.0, None)


def test_a_rater_goes_on_where_the_work_stopped(tmp_path: Path) -> None:
    table = rate.table(run(tmp_path / "run"))
    first = rate.Rating(table, "ann")
    assert (first.total, first.done) == (11, 0), "equal answers are none to rate"
    for _ in range(4):
        one = first.next()
        assert one is not None
        first.choose(one, "left" if one.left[0] == "tuned" else "right")
    again = rate.Rating(rate.table(tmp_path / "run"), "ann")
    assert again.done == 4
    following = again.next()
    assert following is not None
    assert following == first.next()
    again.put_off(following)
    assert again.next() != following
    assert again.undo()
    assert rate.Rating(table, "ann").done == 3
    assert rate.Rating(table, "bo").done == 0


def test_ratings_of_other_answers_do_not_count(tmp_path: Path) -> None:
    rating = rate.Rating(rate.table(run(tmp_path / "run")), "ann")
    one = rating.next()
    assert one is not None
    rating.choose(one, "tie")
    file = tmp_path / "run/predictions.jsonl"
    file.write_text(file.read_text("utf-8").replace("yes", "aye"), "utf-8")
    assert rate.Rating(rate.table(tmp_path / "run"), "ann").done == 0


def test_what_raters_decide_becomes_preference_rows(tmp_path: Path) -> None:
    table = rate.table(run(tmp_path / "run"))
    for rater, answer in (("ann", "tuned"), ("bo", "base")):
        rating = rate.Rating(table, rater)
        while (one := rating.next()) is not None:
            agrees = int(one.pair.prompt[0]["content"].split()[1]) < 6
            wanted = "tuned" if agrees else answer
            rating.choose(one, "left" if one.left[0] == wanted else "right")
    found = rate.summary(table)
    assert (found.pairs, found.alike) == (12, 1)
    assert (found.together.second, found.together.ties) == (5, 6), "raters who disagree decide nothing"
    [both] = found.agreements
    assert (both.raters, both.pairs, both.same) == (("ann", "bo"), 11, pytest.approx(5 / 11))
    out = tmp_path / "pairs.jsonl"
    assert rate.write_preferences(table, out) == 5
    loaded = load(out)
    assert (loaded.kind, len(loaded.records)) == ("preference", 5)
    row: Any = loaded.records[0]
    assert row.chosen[0].content.startswith("yes")
    assert row.rejected[0].content.startswith("no")
    with pytest.raises(ConflictError):
        rate.write_preferences(table, out)


def test_two_runs_are_rated_on_the_rows_they_share(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a"), run(tmp_path / "b", rows=5, tuned="perhaps")
    table = rate.table(a, b)
    assert table.names == ("a", "b")
    assert len(table.pairs) == 5
    with pytest.raises(ContentError, match="no test row in common"):
        rate.table(a, run(tmp_path / "c", reference="other"))
    with pytest.raises(UsageError, match="both runs are the same"):
        rate.table(a, a)


def test_runs_without_answers_and_odd_names_are_told(tmp_path: Path) -> None:
    path = run(tmp_path / "run")
    for name in ("../x", "", "a b", ".x"):
        with pytest.raises(UsageError, match="is no rater's name"):
            rate.Rating(rate.table(path), name)
    rows = [json.loads(line) | {"tuned": None} for line in (path / "predictions.jsonl").read_text().splitlines()]
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ContentError, match="has no answers to rate"):
        rate.table(path)
