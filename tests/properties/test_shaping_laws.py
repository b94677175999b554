"""Laws of held-out shares, caps, curricula and mixtures."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.messages import Example, Message
from tunesmith.data import draw
from tunesmith.data.audit import Audit
from tunesmith.data.batch import Budget, plan_epoch
from tunesmith.data.config import CapSpec, DataSpec
from tunesmith.data.keys import Keys, overlapping
from tunesmith.data.mix import mixture, over_cap
from tunesmith.data.split import hold_out, split_off

QUICK = settings(max_examples=100, deadline=None)
SEED = st.integers(0, 2**31 - 1)
SHARE = st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9, 0.99])


def example(prompt: str, answer: str = "yes", **metadata: Any) -> Example:
    turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Example(messages=turns, metadata=metadata)


def drawn(rows: list[Example], share: float, seed: int, **split: str) -> tuple[list[int], list[int], Audit]:
    audit = Audit()
    data = DataSpec.model_validate({"train": "x", "split": split or None})
    kept, held = split_off(rows, share, "validation", data, seed, audit)
    return kept, held, audit


ROWS = st.lists(
    st.builds(
        example,
        st.sampled_from([f"{word}{i}" for i in range(12) for word in ("a", "A ")]),
        kind=st.sampled_from(["x", "y", "z"]),
        who=st.sampled_from([None, 1, 1.0, "1", "c", " c", *range(5, 12)]),
        time=st.integers(-3, 30),
    ),
    min_size=1,
    max_size=50,
)
RULES = st.sampled_from(
    [{}, {"stratify": "kind"}, {"group": "who"}, {"by_time": "time"}, {"stratify": "kind", "group": "who"},
     {"by_time": "time", "group": "who"}]
)  # fmt: skip


def parts(rows: list[Example], grouped: bool) -> int:
    """How many sets of rows there are that must stay together, found by joining one row after another."""
    left = [{i} for i in range(len(rows))]
    keys: dict[Any, set[int]] = defaultdict(set)
    for i, row in enumerate(rows):
        keys["prompt", row.prompt_key()].add(i)
        if grouped and row.metadata["who"] is not None:
            keys["who", str(row.metadata["who"]).strip().removesuffix(".0")].add(i)
    for joined in keys.values():
        touched = [unit for unit in left if unit & joined]
        left = [unit for unit in left if not unit & joined] + [set().union(*touched)]
    return len(left)


@QUICK
@given(rows=ROWS, share=SHARE, seed=SEED, rule=RULES)
def test_no_prompt_and_no_group_stands_on_both_sides_and_no_row_is_lost(rows, share, seed, rule):
    sets = parts(rows, "group" in rule)
    if "group" in rule and all(row.metadata["who"] is None for row in rows):
        return
    kept, held, audit = drawn(rows, share, seed, **rule)
    assert sorted(kept + held) == list(range(len(rows)))
    assert (kept, held) == (sorted(kept), sorted(held))
    assert not len(overlapping(Keys.of([rows[i] for i in kept]), Keys.of([rows[i] for i in held]))[0])
    if "group" in rule:
        sides = ({str(rows[i].metadata["who"]).strip().removesuffix(".0") for i in side} for side in (kept, held))
        assert not set.intersection(*sides) - {"None"}
    assert bool(held) == (sets > 1)
    assert kept
    assert [f.code for f in audit.findings if f.code == "no_split"] == ([] if held else ["no_split"])
    assert drawn(rows, share, seed, **rule)[:2] == (kept, held)


@QUICK
@given(rows=ROWS, share=st.floats(0, 0.999), seed=SEED)
def test_without_a_rule_the_sides_are_those_of_older_runs(rows, share, seed):
    def as_it_was() -> tuple[list[int], list[int]]:
        groups: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(row.prompt_key(), []).append(index)
        if share <= 0 or len(groups) < 2:
            return list(range(len(rows))), []
        members, wanted, held = list(groups.values()), max(1, round(share * len(rows))), []
        order = [members[group] for group in np.random.default_rng(seed).permutation(len(members))[:-1]]
        for group in order:
            if len(held) + len(group) <= wanted:
                held += group
        held = held or min(order, key=len)
        return sorted(set(range(len(rows))) - set(held)), sorted(held)

    assert hold_out(rows, share, seed) == as_it_was()
    assert drawn(rows, share, seed)[:2] == as_it_was()


@QUICK
@given(labels=st.lists(st.integers(0, 6), min_size=2, max_size=80), share=SHARE, seed=SEED)
def test_stratified_shares_are_exact_to_a_row_where_each_row_stands_alone(labels, share, seed):
    rows = [example(f"question {i}", kind=label) for i, label in enumerate(labels)]
    _, held, audit = drawn(rows, share, seed, stratify="kind")
    assert len(held) == min(len(rows) - 1, max(1, round(share * len(rows))))
    out = Counter(labels[i] for i in held)
    for label, count in Counter(labels).items():
        assert abs(out[label] - share * count) <= 1
    [split] = audit.splits
    assert {(s.label, s.rows, s.held_out) for s in split.labels} == {
        (str(label), count, out[label]) for label, count in Counter(labels).items()
    }


@QUICK
@given(sizes=st.lists(st.integers(1, 5), min_size=3, max_size=40), share=SHARE, seed=SEED, ones=st.integers(5, 20))
def test_stratified_shares_are_exact_to_a_row_where_there_are_rows_enough_that_stand_alone(sizes, share, seed, ones):
    units = np.repeat(np.arange(len(sizes) + ones), [*sizes, *[1] * ones])
    labels = units % 3
    counts = np.bincount(labels, minlength=3)
    rng = np.random.default_rng(seed)
    room = draw.quotas(counts, share, min(len(units) - 1, max(1, round(share * len(units)))), rng)
    held = np.isin(units, draw.stratified(units, labels, room, rng))
    for label in range(3):
        mine = labels == label
        left_alone = [u for u in set(units[mine & ~held].tolist()) if np.count_nonzero(units == u) == 1]
        short = int(room[label] - np.count_nonzero(mine & held))
        assert short <= 0 or not left_alone


@QUICK
@given(rows=ROWS, share=SHARE, seed=SEED)
def test_no_trained_row_is_newer_than_a_held_out_one_but_for_rows_of_one_prompt(rows, share, seed):
    kept, held, _ = drawn(rows, share, seed, by_time="time")
    newest: dict[str, int] = {}
    for row in rows:
        newest[row.prompt_key()] = max(newest.get(row.prompt_key(), -99), row.metadata["time"])
    if held:
        oldest = min(newest[rows[i].prompt_key()] for i in held)
        assert all(rows[i].metadata["time"] <= oldest for i in kept)
        if len(newest) == len(rows):
            assert all(rows[i].metadata["time"] >= rows[j].metadata["time"] for i in held for j in kept)
            assert len(held) == min(len(rows) - 1, max(1, round(share * len(rows))))


@QUICK
@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=80), cap=st.integers(1, 9), seed=SEED, data=st.data())
def test_a_cap_holds_leaves_no_more_out_than_it_must_and_looks_at_trained_rows_alone(labels, cap, seed, data):
    rows = [example(f"question {i}", kind=label or None) for i, label in enumerate([1, *labels])]
    trained = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True))
    out, facts = over_cap(rows, trained, CapSpec(rows=cap, by="kind"), seed)
    assert out <= set(trained)
    before, after = (Counter(rows[i].metadata["kind"] for i in side) for side in (trained, set(trained) - out))
    for label, count in before.items():
        assert after[label] == (count if label is None else min(cap, count))
    assert facts.left_out == {str(k): n - cap for k, n in before.items() if k is not None and n > cap}
    assert (facts.rows, facts.unlabelled) == (len(trained) - len(out), before[None])
    assert over_cap(rows, trained, CapSpec(rows=cap, by="kind"), seed) == (out, facts)


PLAN = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=150)
BUDGET = st.one_of(
    st.builds(Budget, st.integers(1, 9), st.none(), st.integers(1, 4)),
    st.builds(Budget, st.none(), st.integers(1, 200), st.integers(1, 4)),
)


@QUICK
@given(rows=PLAN, budget=BUDGET, seed=SEED, epoch=st.integers(0, 3))
def test_a_curriculum_sees_the_same_rows_in_stages_that_never_become_easier(rows, budget, seed, epoch):
    lengths, repeats, hard = zip(*rows, strict=True)
    rank = np.array(hard, dtype=np.float64)
    steps = plan_epoch(lengths, repeats, budget, seed, epoch, rank)
    seen = [row for step in steps for micro in step for row in micro]
    assert Counter(seen) == Counter({i: n for i, n in enumerate(repeats) if n})
    assert steps == plan_epoch(lengths, repeats, budget, seed, epoch, rank)
    for step in steps:
        assert len(step) <= budget.accumulation
    if budget.rows:
        per_step = budget.rows * budget.accumulation
        window = per_step * min(16, max(1, len(seen) // per_step // 8))
        ordered = sorted(hard[row] for row in seen)
        last = len(ordered) // window * window
        # The last window has a step that is not full, which is shuffled among the others of its window alone.
        for start in [*range(0, last, window), last]:
            assert sorted(hard[row] for row in seen[start : start + window]) == ordered[start : start + window]


@QUICK
@given(rows=PLAN, seed=SEED, data=st.data())
def test_the_shares_of_a_mixture_are_those_of_an_epoch_and_sum_to_one(rows, seed, data):
    lengths, repeats, _ = zip(*rows, strict=True)
    repeats = [max(1, n) for n in repeats]
    paths = ["a", "b", "c"]
    source = np.array([data.draw(st.integers(0, 2)) for _ in rows], dtype=np.int64)
    shares = mixture(paths, source, repeats, lengths)
    assert abs(sum(s.share_of_rows for s in shares) - 1) < 1e-9
    assert abs(sum(s.share_of_tokens for s in shares) - 1) < 1e-9
    steps = plan_epoch(lengths, repeats, Budget(4, None, 2), seed, 0)
    seen = [row for step in steps for micro in step for row in micro]
    for place, share in enumerate(shares):
        mine = [row for row in seen if source[row] == place]
        assert (share.path, share.rows, share.seen) == (paths[place], len(set(mine)), len(mine))
        assert share.tokens == sum(lengths[row] for row in mine)
        assert share.share_of_rows == len(mine) / len(seen)
