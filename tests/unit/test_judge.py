"""A model as a judge: what is asked, what its words mean, and how far it agrees with people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from answered import run
from endpoint import Reply, refused, said, serving
from tunesmith.core.errors import ContentError, MissingError, UsageError
from tunesmith.core.events import silent
from tunesmith.evaluation.judge import by_order, by_score, compared, reliability, score, scored, verdict
from tunesmith.evaluation.rating import Pair
from tunesmith.inference.backends.remote import Endpoint, Remote
from tunesmith.pipelines import rate
from tunesmith.pipelines.judge import Judgement, judge, rater

PAIR = Pair(({"role": "user", "content": "q?"},), ("base", "tuned"), ("no", "yes"), "yes!")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("A", "A"), ("b", "B"), ("TIE", "tie"), ("It is short.\n\n**B**\n", "B"), ("Verdict: A.", "A"),
        ("[[C]]", "tie"),
        ("", None), ("A is better, B is not", None), ("A\nbut then again", None), ("Answer A or answer B", None),
    ],
)  # fmt: skip
def test_the_last_line_is_the_verdict(text: str, meant: str | None) -> None:
    assert verdict(text) == meant


@pytest.mark.parametrize(
    ("text", "meant"), [("4", 4), ("Fine.\nScore: 5/5", 5), ("6", None), ("0", None), ("3 or 4", None), ("", None)]
)
def test_the_last_line_is_the_score(text: str, meant: int | None) -> None:
    assert score(text) == meant


def test_the_question_swaps_the_answers_and_tells_no_names() -> None:
    straight, swapped = (compared(PAIR, swapped=turned)[1].content or "" for turned in (False, True))
    assert "<answer_a>\nno\n</answer_a>" in straight
    assert "<answer_a>\nyes\n</answer_a>" in swapped
    assert "<right_answer>\nyes!\n</right_answer>" in straight
    assert "tuned" not in straight + swapped
    one = scored(PAIR, 1, "Kindness.")
    assert "Kindness." in (one[0].content or "")
    assert "<answer>\nyes\n</answer>" in (one[1].content or "")


def test_only_who_wins_in_both_orders_has_won() -> None:
    assert by_order(PAIR, "B", "A").winner == "tuned"
    assert by_order(PAIR, "A", "B").winner == "base"
    for both in (("A", "A"), ("B", "B"), ("tie", "A"), (None, "A"), ("tie", "tie"), (None, None)):
        assert by_order(PAIR, *both).winner == "tie"  # type: ignore[arg-type]
    assert [by_score(PAIR, *both).winner for both in ((1, 5), (5, 1), (3, 3), (None, 4))] == [
        "tuned",
        "base",
        "tie",
        "tie",
    ]


def test_a_judge_that_takes_the_first_answer_shows_its_side() -> None:
    sided = reliability([by_order(PAIR, "A", "A") for _ in range(9)] + [by_order(PAIR, None, "A")])
    assert (sided.pairs, sided.unclear, sided.same, sided.first) == (10, 1, 0.0, 1.0)
    fair = reliability([by_order(PAIR, "B", "A"), by_order(PAIR, "A", "B"), by_order(PAIR, "tie", "tie")])
    assert (fair.same, fair.first) == (1.0, 0.5)
    assert reliability([by_score(PAIR, 1, 2)]).same is None


def shown(asked: dict[str, Any], name: str) -> str:
    text: str = asked["messages"][1]["content"]
    return text.partition(f"<{name}>\n")[2].partition(f"\n</{name}>")[0]


def longer(asked: dict[str, Any]) -> Reply:
    """A judge that prefers the answer that sorts last, says why, and counts tokens."""
    a, b = shown(asked, "answer_a"), shown(asked, "answer_b")
    status, headers, body = said(f"Clear.\n{'A' if a > b else 'B'}")
    told = json.loads(body) | {"usage": {"prompt_tokens": 100, "completion_tokens": 3}}
    return status, headers, json.dumps(told).encode()


def asked_of(url: str, table: rate.Table, **how: Any) -> Judgement:
    with Remote(Endpoint(url, "big/model", retries=0)) as remote:
        return judge(table, remote, "big/model", where=url, sink=silent, **{"rubric": None, "rows": None} | how)


def test_choices_stand_beside_peoples_and_cost_is_told_once(tmp_path: Path) -> None:
    table = rate.table(run(tmp_path / "run", rows=6))
    person = rate.Rating(table, "ann")
    while (pair := person.next()) is not None:
        person.choose(pair, "left" if pair.left[1] > pair.right[1] else "right")
    with serving(longer) as server:
        made = asked_of(server.url, table)
        assert (made.asked, made.known, made.tokens_in, made.tokens_out) == (10, 0, 1000, 30)
        assert made.cost(1.0, 2.0) == pytest.approx((1000 + 60) / 1e6)
        assert made.cost(None, 2.0) is None
        assert (made.reliability.same, made.reliability.unclear) == (1.0, 0)
        once_more = asked_of(server.url, table)
        assert (once_more.asked, once_more.known, len(server.asked)) == (0, 10, 10)
    summed = rate.summary(table)
    assert made.rater == "judge-big-model"
    assert set(summed.by_rater) == {"ann", made.rater}
    (agreed,) = summed.agreements
    assert (agreed.pairs, agreed.same) == (5, 1.0)


def test_people_decide_where_there_are_any(tmp_path: Path) -> None:
    table = rate.table(run(tmp_path / "run", rows=6))
    with serving(longer) as server:
        asked_of(server.url, table)
    alone = rate.summary(table).together
    assert alone.first + alone.second == 5
    person = rate.Rating(table, "ann", most=1)
    pair = person.next()
    assert pair is not None
    person.choose(pair, "tie")
    together = rate.summary(table).together
    assert (together.first + together.second, together.ties) == (0, 1)
    with pytest.raises(UsageError, match="no rater's name"):
        rate.Rating(table, "judge-dredd")


def test_what_was_answered_before_an_error_is_kept(tmp_path: Path) -> None:
    table, count = rate.table(run(tmp_path / "run", rows=6)), 0

    def breaks(asked: dict[str, Any]) -> Reply:
        nonlocal count
        count += 1
        return longer(asked) if count <= 4 else refused(400, "no more money")

    with serving(breaks) as server:
        with pytest.raises(MissingError, match="400"):
            asked_of(server.url, table)
        count = -100
        made = asked_of(server.url, table)
        assert made.known == 4
        assert made.asked == 6


def test_by_a_rubric_the_higher_score_wins(tmp_path: Path) -> None:
    table = rate.table(run(tmp_path / "run", rows=6))

    def scores(asked: dict[str, Any]) -> Reply:
        assert "Be exact." in asked["messages"][0]["content"]
        return said("5" if "tuned" in shown(asked, "answer") else "2")

    with serving(scores) as server:
        made = asked_of(server.url, table, rubric="Be exact.", rows=3)
    assert made.rater == "judge-big-model-rubric"
    assert made.reliability.pairs == 3
    assert made.mean_scores is not None
    assert made.tokens_in is None, "this endpoint tells none"


def test_equal_answers_are_no_question(tmp_path: Path) -> None:
    table = rate.table(run(tmp_path / "run", rows=6))
    same = rate.Table(table.run, table.names, tuple(pair for pair in table.pairs if pair.alike))
    with pytest.raises(ContentError, match="nothing to choose"):
        asked_of("http://127.0.0.1:1/v1", same)
    assert rater("../../etc/passwd", None) == "judge-etc-passwd"
