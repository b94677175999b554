"""Splits by label, group and time, caps, curricula and mixtures: worked by hand, and in whole preparations."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.cli import show
from tunesmith.core.errors import ContentError
from tunesmith.core.messages import Example, Message
from tunesmith.data import draw, values
from tunesmith.data.audit import Audit
from tunesmith.data.config import CurriculumSpec, DataSpec
from tunesmith.data.curriculum import Curriculum, curriculum
from tunesmith.data.split import split_off
from tunesmith.engine.config import TrainingSpec
from tunesmith.engine.steps import Steps
from tunesmith.pipelines.check import check_recipe
from tunesmith.pipelines.prepare import Prepared, prepare
from tunesmith.pipelines.read_recipe import placed, read_recipe
from tunesmith.pipelines.recipe import RunSpec

LABELS = ("red", "green", "blue", "yellow")


def example(prompt: str, answer: str = "yes", **metadata: Any) -> Example:
    turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Example(messages=turns, metadata=metadata, origin=f"f:{prompt}")


def row(number: int, **more: Any) -> dict[str, Any]:
    """A row whose label, customer, day and hardness follow from its number."""
    day = datetime(2026, 1, 1, tzinfo=UTC).toordinal() + number * 7 % 61
    asked = f"what is the colour of thing number {number}, {'please ' * (number % 5)}tell me"
    facts = {"customer": f"c{number % 13}", "day": date.fromordinal(day).isoformat(), "hardness": number * 11 % 17}
    return {"prompt": asked, "completion": LABELS[number % 3 if number % 10 else 3]} | facts | more


ROWS = [row(i) for i in range(120)]


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    return str(folder / name)


def prepared(folder: Path, rows: list[dict[str, Any]] = ROWS, seed: int = 5, **data: Any) -> Prepared:
    data = {"train": written(folder, "train.jsonl", rows)} | data
    return prepare(RunSpec.model_validate({"seed": seed, "data": data, "training": {"batch_size": 4}}))


def found(data: Prepared, code: str) -> Any:
    [finding] = [f for f in data.audit.findings if f.code == code]
    return finding


def sides(data: Prepared) -> list[list[str]]:
    return [[e.origin for e in rows.examples] for rows in (data.train, data.validation, data.test)]


def test_stratified_test_and_validation_rows_have_their_shares_of_every_label(tmp_path: Path) -> None:
    data = prepared(tmp_path, test=0.2, validation=0.25, split={"stratify": "label"})
    counts = [Counter(e.answer() for e in rows.examples) for rows in (data.train, data.validation, data.test)]
    assert sum(counts, Counter()) == Counter(one["completion"] for one in ROWS)
    for label, total in sum(counts, Counter()).items():
        assert abs(counts[2][label] - 0.2 * total) <= 1
        assert abs(counts[1][label] - 0.25 * (total - counts[2][label])) <= 1
    assert [s.role for s in data.audit.splits] == ["test", "validation"]
    test, validation = data.audit.as_json()["splits"]
    assert (test["rows"], test["of"], test["share"], test["wanted"]) == (24, 120, 0.2, 0.2)
    assert (validation["rows"], validation["of"], validation["rule"]) == (24, 96, {"stratify": "label"})
    assert {s["label"]: s["held_out"] / s["rows"] for s in test["labels"]} == {
        s["label"]: s["share"] for s in test["labels"]
    }
    assert not set.intersection(*map(set, sides(data)))
    assert sides(data) == sides(prepared(tmp_path, test=0.2, validation=0.25, split={"stratify": "label"}))
    assert sides(data)[2] != sides(prepared(tmp_path, seed=6, test=0.2, split={"stratify": "label"}))[2]


def test_a_customer_stands_on_one_side(tmp_path: Path) -> None:
    data = prepared(tmp_path, test=0.2, validation=0.2, subject="customer", split={"group": "subject"})
    seen = [{e.metadata["customer"] for e in rows.examples} for rows in (data.train, data.validation, data.test)]
    assert sum(map(len, seen)) == 13
    assert len(set.union(*seen)) == 13
    assert all(seen)


def test_subject_is_a_key_like_any_other_where_the_recipe_names_none(tmp_path: Path) -> None:
    rows = [row(i, subject=f"s{i % 9}") for i in range(90)]
    data = prepared(tmp_path, rows, validation=0.2, split={"group": "subject"})
    seen = [{e.metadata["subject"] for e in part.examples} for part in (data.train, data.validation)]
    assert not seen[0] & seen[1]


def test_the_newest_rows_are_test_then_validation(tmp_path: Path) -> None:
    data = prepared(tmp_path, test=0.1, validation=0.1, split={"by_time": "day"})
    train, validation, test = (
        [e.metadata["day"] for e in part.examples] for part in (data.train, data.validation, data.test)
    )
    assert (len(train), len(validation), len(test)) == (97, 11, 12)
    assert max(train) <= min(validation) <= max(validation) <= min(test)


def test_a_group_goes_where_its_newest_row_goes() -> None:
    rows = [example(str(i), who=who, at=at) for i, (who, at) in enumerate(
        [("a", 1), ("b", 2), ("a", 9), ("c", 3), ("b", 4), ("d", 5), ("d", 6), ("e", 7)])]  # fmt: skip
    data = DataSpec.model_validate({"train": "x", "split": {"by_time": "at", "group": "who"}})
    assert split_off(rows, 0.25, "test", data, 0, Audit()) == ([1, 3, 4, 5, 6, 7], [0, 2])
    assert split_off(rows, 0.4, "test", data, 0, Audit()) == ([1, 3, 4, 5, 6], [0, 2, 7])
    assert split_off(rows, 0.6, "test", data, 0, Audit())[1] == [0, 2, 5, 6, 7]


def test_of_equal_times_the_later_rows_are_newer() -> None:
    data = DataSpec.model_validate({"train": "x", "split": {"by_time": "at"}})
    assert split_off([example(str(i), at=3) for i in range(10)], 0.3, "test", data, 0, Audit())[1] == [7, 8, 9]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (3, ("number", 3.0)), ("3.5", ("number", 3.5)), ("-1e3", ("number", -1000.0)), ("", None), (None, None),
        (True, None), (float("nan"), None), ("inf", None), (10**400, None), ([1], None), ("05/01/2026", None),
        ("1970-01-02", ("date", 86400.0)), (" 1970-01-01T00:00:01Z", ("date", 1.0)),
        ("1970-01-01T02:00+01:00", ("date", 3600.0)), ("1970-01-01 00:00:00.5", ("date", 0.5)),
        (date(1970, 1, 2), ("date", 86400.0)), (datetime(1970, 1, 1, 1, tzinfo=UTC), ("date", 3600.0)),
    ],
)  # fmt: skip
def test_what_rows_can_be_ordered_by(value: Any, wanted: Any) -> None:
    order, [finding] = values.sort_values([example("a", at=value), example("b", at="?")], "at", "here", "sorted")
    assert order.tolist() == [wanted[1] if wanted else -np.inf, -np.inf]
    kind = {"date": "an ISO date", "number": "a number"}[wanted[0]] if wanted else "an ISO date (2026-01-31"
    assert f"row has no 'at' that is {kind}" in finding.message
    assert finding.rows == (("f:b",) if wanted else ("f:a", "f:b"))


def test_rows_without_a_time_block_and_are_trained_on_when_that_is_waived(tmp_path: Path) -> None:
    rows = [*ROWS[:60], row(60, day=None), row(61, day=20260101), row(62, day="soon")]
    split: dict[str, Any] = {"test": 0.1, "validation": 0.1, "split": {"by_time": "day"}}
    finding = found(prepared(tmp_path, rows, **split), "no_sort_key")
    assert (finding.severity, finding.rows) == ("block", tuple(f"train.jsonl:{n}" for n in (61, 62, 63)))
    assert "an ISO date" in finding.message
    assert "data.split.by_time" in finding.mend
    data = prepared(tmp_path, rows, waive={"no_sort_key": "old imports"}, **split)
    data.require_clean()
    assert set(finding.rows) <= set(sides(data)[0])


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"split": {"group": "custommer"}}, "data.split.group"),
        ({"split": {"by_time": "custommer"}}, "data.split.by_time"),
        ({"split": {"stratify": "custommer"}}, "data.split.stratify"),
        ({"cap_per_label": {"rows": 3, "by": "custommer"}}, "data.cap_per_label.by"),
        ({"curriculum": {"by": "custommer"}}, "data.curriculum.by"),
    ],
)
def test_a_key_that_no_row_has_is_an_error_that_names_the_near_one(tmp_path: Path, data: Any, where: str) -> None:
    with pytest.raises(ContentError, match=f"no row has the key 'custommer' that {where} names") as caught:
        prepared(tmp_path, **data)
    assert caught.value.where == where
    assert "did you mean 'customer'? (known: " in str(caught.value.mend)
    words = {
        "data.split.stratify": "label",
        "data.cap_per_label.by": "label",
        "data.curriculum.by": "base_loss, length",
    }
    known = re.search(r"known: (.*)\)", str(caught.value.mend))
    assert known is not None
    own = sorted(["customer", "day", "hardness", *words.get(where, "").split(", ")])
    assert known.group(1).split(", ") == [name for name in own if name]


def test_what_only_the_data_can_tell_is_placed_in_the_recipe_too(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    written(tmp_path, "train.jsonl", ROWS)
    path.write_text("data:\n  train: train.jsonl\n  split:\n    group: customers\n", "utf-8")
    with pytest.raises(ContentError, match="customers") as caught:
        check_recipe(path)
    assert caught.value.where == f"{path}:4 (data.split.group)"
    path.write_text("data:\n  train: train.jsonl\n", "utf-8")
    with pytest.raises(ContentError, match="customers") as caught, placed(path):
        prepare(read_recipe(path, ["data.split.group=customers"], environment={}))
    assert caught.value.where == "data.split.group"


def test_answers_that_are_no_labels_are_an_error_and_general_rows_beside_labels_are_none(tmp_path: Path) -> None:
    free = [row(i, completion=f"{i} words of an answer " * 5) for i in range(120, 180)]
    own = [row(i, completion=f"answer {i}") for i in range(60)]
    for rows in (free, own):
        with pytest.raises(ContentError, match=r"data\.split\.stratify is 'label', but the answers are no labels"):
            prepared(tmp_path, rows, split={"stratify": "label"})
    data = prepared(tmp_path, [*ROWS, *free], split={"stratify": "label"}, cap_per_label=5)
    [split] = data.audit.splits
    assert [(s.label, s.rows, s.held_out) for s in split.labels if not s.label] == [("", 60, 6)]
    assert Counter(e.answer() for e in data.train.examples if e.answer() in LABELS) == dict.fromkeys(LABELS, 5)
    assert data.audit.cap is not None
    assert (data.audit.cap.unlabelled, data.audit.cap.rows) == (54, 74)


def test_a_cap_tells_what_it_leaves_out_and_no_held_out_row_counts(tmp_path: Path) -> None:
    free, bound = (prepared(tmp_path, validation=0.2, **more) for more in ({}, {"cap_per_label": 7}))
    assert sides(free)[1] == sides(bound)[1]
    counts = Counter(e.answer() for e in free.train.examples)
    assert Counter(e.answer() for e in bound.train.examples) == {label: min(7, n) for label, n in counts.items()}
    finding = found(bound, "capped")
    assert set(finding.rows) == set(sides(free)[0]) - set(sides(bound)[0])
    assert bound.audit.as_json()["cap"]["left_out"] == {label: n - 7 for label, n in counts.items() if n > 7}
    assert all(f"{label} {n - 7}" in finding.message for label, n in counts.items() if n > 7)
    assert bound.audit.tokens is not None
    assert bound.audit.tokens.rows == len(bound.train.examples)
    assert "capped" not in {f.code for f in prepared(tmp_path, cap_per_label=100).audit.findings}


def test_groups_too_large_for_the_share_are_told(tmp_path: Path) -> None:
    rows = [row(i, customer=f"c{i // 40}") for i in range(120)]
    finding = found(prepared(tmp_path, rows, split={"group": "customer"}), "split_off")
    assert "40 rows are held out for validation, 12 were wanted" in finding.message
    assert "in sets of up to 40" in finding.message
    rows = [row(i, customer="one") for i in range(60)]
    data = prepared(tmp_path, rows, test=0.1, split={"group": "customer"})
    assert [(f.code, "test" in f.message) for f in data.audit.findings if f.code == "no_split"] == [
        ("no_split", True), ("no_split", False)
    ]  # fmt: skip
    assert [len(side) for side in sides(data)] == [60, 0, 0]


def test_a_label_keeps_a_row_for_training_where_another_can_give_one() -> None:
    rng = np.random.default_rng(0)
    assert draw.quotas(np.array([1, 20, 20]), 0.45, 18, rng).tolist() == [0, 9, 9]
    assert draw.quotas(np.array([1, 9, 9]), 0.45, 9, rng).tolist() in ([0, 5, 4], [0, 4, 5])
    assert draw.quotas(np.array([1, 1, 1]), 0.5, 2, rng).sum() == 2


def test_rows_of_other_labels_in_one_group_are_drawn_as_near_as_they_come() -> None:
    units, labels = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 1, 0, 1, 0, 0, 1, 1])
    for seed in range(20):
        held = set(draw.stratified(units, labels, np.array([2, 2]), np.random.default_rng(seed)))
        assert held in ({0, 1}, {2, 3})
    # One of three rows leaves room for two; a second is one row too many, which is nearer than two too few.
    units, labels = np.repeat(np.arange(5), 3), np.zeros(15, dtype=np.int64)
    assert len(draw.stratified(units, labels, np.array([5]), np.random.default_rng(0))) == 2
    # Nothing fits; one row too many is nearer than three too few.
    units, labels = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.zeros(8, dtype=np.int64)
    assert len(draw.stratified(units, labels, np.array([3]), np.random.default_rng(0))) == 1


OLD = "a4c2ca21979a6ada562357711a34621d74cd496eb34d895acd484b0f71733c02"
OLD_WITH_OPTIONS = "cb3885c2acf7cf4300fc73eb12d0885d09a816a56443b3a93b959a45032d71bc"
OLD_RECIPE = "c8baca20735b6aa64138f7eb8eaa5ebd5d3bd8710f00aa399964bdec3b91aabb"


def test_recipes_without_these_keys_have_the_fingerprints_and_the_rows_of_older_runs(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i}", "completion": f"answer {i % 3}", "who": f"c{i % 7}"} for i in range(40)]
    a, b = written(tmp_path, "a.jsonl", rows[:30]), written(tmp_path, "b.jsonl", rows[30:])
    plain = prepare(RunSpec.model_validate({"seed": 5, "data": {"train": a}}))
    assert (plain.data_fingerprint, plain.spec.training_fingerprint()) == (OLD, OLD_RECIPE)
    assert sides(plain)[1] == ["a.jsonl:3", "a.jsonl:10", "a.jsonl:20"]
    more: dict[str, Any] = {"near_duplicates": "drop", "personal_data": "mask", "subject": "who", "validation": 0.2}
    data = {"train": [{"path": a, "weight": 0.5}], "test": b, **more}
    assert prepare(RunSpec.model_validate({"seed": 5, "data": data})).data_fingerprint == OLD_WITH_OPTIONS


def test_every_option_that_changes_rows_changes_the_data_fingerprint(tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {}, {"test": 0.1}, {"test": 0.2}, {"test": 0.1, "seed": 6}, {"cap_per_label": 7}, {"cap_per_label": 8},
        {"cap_per_label": {"rows": 8, "by": "customer"}}, {"split": {"stratify": "label"}},
        {"split": {"stratify": "customer"}}, {"split": {"group": "customer"}}, {"split": {"by_time": "day"}},
        {"split": {"by_time": "day", "group": "customer"}},
    ]  # fmt: skip
    prints = [prepared(tmp_path, **variant).data_fingerprint for variant in variants]
    assert len(set(prints)) == len(variants)
    assert prepared(tmp_path, test=0.1).data_fingerprint == prints[1]


def test_a_curriculum_changes_no_row_but_what_is_resumed(tmp_path: Path) -> None:
    plain, ordered = prepared(tmp_path), prepared(tmp_path, curriculum={"by": "hardness"})
    assert (sides(plain), plain.data_fingerprint) == (sides(ordered), ordered.data_fingerprint)
    assert plain.spec.training_fingerprint() != ordered.spec.training_fingerprint()
    assert plain.curriculum is None
    assert ordered.curriculum is not None
    assert ordered.curriculum.difficulty.tolist() == [e.metadata["hardness"] for e in ordered.train.examples]


def test_curricula_by_length_by_key_and_backwards() -> None:
    rows = [example("a", at=3), example("b", at=-1), example("c")]
    made, findings = curriculum(CurriculumSpec(), rows, [5, 4, 9])
    assert made is not None
    assert (made.difficulty.tolist(), findings) == ([5, 4, 9], [])
    assert made.in_epoch(0) is not None
    assert made.in_epoch(1) is None
    made, [finding] = curriculum(CurriculumSpec(by="at", order="descending", epochs=2), rows, [5, 4, 9])
    assert made is not None
    assert made.difficulty.tolist() == [-3, 1, np.inf]
    assert made.in_epoch(1) is not None
    assert (finding.code, finding.severity, finding.rows) == ("no_sort_key", "block", ("f:c",))
    assert curriculum(None, rows, [1, 2, 3]) == (None, [])
    assert curriculum(CurriculumSpec(by="base_loss"), rows, [1, 2, 3]) == (None, [])


@pytest.mark.parametrize("options", [{"batch_size": 4}, {"batch_tokens": 100, "gradient_accumulation": 2}])
def test_a_training_under_a_curriculum_finds_its_place_again(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    lengths, repeats = rng.integers(3, 60, 90).tolist(), rng.integers(0, 3, 90).tolist()
    order = Curriculum.of(CurriculumSpec(epochs=2), rng.random(90))
    spec = TrainingSpec(epochs=3.5, **options)
    steps = Steps(lengths, repeats, spec, 9, order)
    whole = list(steps.after(0))
    for done in (1, 7, len(whole) // 2, len(whole) - 1, len(whole)):
        assert list(Steps(lengths, repeats, spec, 9, order).after(done)) == whole[done:]

    def hardness(epoch: int) -> list[float]:
        return [float(np.mean([order.difficulty[i] for m in step for i in m])) for step in steps._epoch(epoch)]

    def climbs(values: list[float]) -> float:
        return float(np.corrcoef(values, np.arange(len(values)))[0, 1])

    assert min(climbs(hardness(0)), climbs(hardness(1))) > 0.95
    assert abs(climbs(hardness(2))) < 0.5
    assert hardness(0) != hardness(1)


def test_the_mixture_is_what_the_epochs_of_the_run_hold(tmp_path: Path) -> None:
    general = [
        {"prompt": f"tell me something about animal {i}", "completion": "it is " * 20 + str(i)} for i in range(50)
    ]
    sources = [
        {"path": written(tmp_path, "own.jsonl", ROWS), "weight": 2},
        {"path": written(tmp_path, "general.jsonl", general), "weight": 0.4},
    ]
    data = prepared(tmp_path, train=sources, validation=0.1, cap_per_label={"rows": 20, "by": "customer"})
    own, other = data.audit.mixture
    assert own.share_of_rows + other.share_of_rows == pytest.approx(1)
    assert own.share_of_tokens + other.share_of_tokens == pytest.approx(1)
    lengths = [len(one.input_ids) for one in data.train.encoded]
    steps = Steps(lengths, data.repeats, data.spec.training, 5)
    seen = [i for _, step in steps.after(0) for micro in step for i in micro]
    per_epoch = len(seen) / 3
    for share, name in ((own, "own"), (other, "general")):
        mine = [i for i in seen if data.train.examples[i].origin.startswith(name)]
        assert (share.rows, share.seen) == (len(set(mine)), len(mine) / 3)
        assert share.share_of_rows == len(mine) / 3 / per_epoch
        assert share.share_of_tokens == sum(lengths[i] for i in mine) / sum(lengths[i] for i in seen)
    assert own.seen == 2 * own.rows
    assert data.audit.as_json()["mixture"][1]["path"].endswith("general.jsonl")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("  split: {stratify: label, by_time: day}", 3, "stratify and by_time cannot be had together"),
        ("  split: {}", 3, "name at least one of stratify, group and by_time"),
        ("  split:\n    groups: customer", 4, "unknown key 'data.split.groups': did you mean 'group'?"),
        ("  cap_per_label: many", 3, "give a number of rows, or {rows: N, by: KEY}"),
        ("  cap_per_label: 0", 3, "greater than or equal to 1"),
        ("  cap_per_label:\n    by: kind", 3, "'data.cap_per_label.rows' is missing"),
        ("  curriculum: {order: up}", 3, "'ascending' or 'descending'"),
        ("  test: 1.5", 3, "input should be less than 1"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"data:\n  train: a.jsonl\n{text}\n", "utf-8")
    with pytest.raises(ContentError, match="data") as caught:
        read_recipe(path, environment={})
    assert said in str(caught.value)
    assert caught.value.where == f"{path}:{line}"


def test_short_forms(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {train: a.jsonl, test: '0.2', cap_per_label: 3, curriculum: {}}\n", "utf-8")
    data = read_recipe(path, environment={}).data
    assert data.test == 0.2
    assert data.cap_per_label is not None
    assert (data.cap_per_label.rows, data.cap_per_label.by) == (3, "label")
    assert data.curriculum == CurriculumSpec(by="length", order="ascending", epochs=1)


def test_people_are_told_the_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    general = written(tmp_path, "general.jsonl", [row(i) for i in range(200, 230)])
    train = [written(tmp_path, "own.jsonl", ROWS), general]
    show.audit(prepared(tmp_path, train=train, test=0.1, split={"stratify": "label"}).audit.as_json())
    said = " ".join(capsys.readouterr().out.split())
    assert "test: 15 of 150 rows held out, 10.00% (0.1 asked for); stratify label" in said
    assert "4 labels, of each" in said
    assert "an epoch: own.jsonl" in said
    assert "general.jsonl" in said.partition("an epoch")[2]
