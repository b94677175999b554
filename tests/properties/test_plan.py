"""Laws of the training plan, of splitting and of mixing."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.messages import Example, Message
from tunesmith.data.batch import Budget, evaluation_batches, plan_epoch
from tunesmith.data.keys import Keys, overlapping
from tunesmith.data.mix import repetitions
from tunesmith.data.split import hold_out
from tunesmith.engine import schedule

QUICK = settings(max_examples=150, deadline=None)
SEED = st.integers(0, 2**31 - 1)
ROWS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), min_size=1, max_size=120)
BUDGET = st.one_of(
    st.builds(Budget, st.integers(1, 9), st.none(), st.integers(1, 4)),
    st.builds(Budget, st.none(), st.integers(1, 200), st.integers(1, 4)),
)


@QUICK
@given(rows=ROWS, budget=BUDGET, seed=SEED, epoch=st.integers(0, 5))
def test_every_row_is_seen_exactly_as_often_as_it_should(rows, budget, seed, epoch):
    lengths, repeats = zip(*rows, strict=True)
    steps = plan_epoch(lengths, repeats, budget, seed, epoch)
    seen = Counter(row for step in steps for micro in step for row in micro)
    assert seen == Counter({i: n for i, n in enumerate(repeats) if n})
    assert all(micro for step in steps for micro in step)
    assert all(step for step in steps)


@QUICK
@given(rows=ROWS, budget=BUDGET, seed=SEED)
def test_no_micro_batch_exceeds_its_budget_nor_a_step_its_accumulation(rows, budget, seed):
    lengths, repeats = zip(*rows, strict=True)
    for step in plan_epoch(lengths, repeats, budget, seed, 0):
        assert len(step) <= budget.accumulation
        for micro in step:
            if budget.rows:
                assert len(micro) <= budget.rows
            else:
                assert len(micro) == 1 or len(micro) * max(lengths[i] for i in micro) <= budget.tokens


def rows_of(step):
    return [row for micro in step for row in micro]


@QUICK
@given(rows=ROWS, factors=st.sampled_from([(1, 8), (8, 1), (2, 4), (4, 2)]), seed=SEED, epoch=st.integers(0, 3))
def test_the_rows_of_a_step_depend_on_batch_times_accumulation_alone(rows, factors, seed, epoch):
    lengths, repeats = zip(*rows, strict=True)
    one = plan_epoch(lengths, repeats, Budget(8, None, 1), seed, epoch)
    other = plan_epoch(lengths, repeats, Budget(factors[0], None, factors[1]), seed, epoch)
    assert [rows_of(step) for step in one] == [rows_of(step) for step in other]


@QUICK
@given(rows=ROWS, size=st.integers(1, 8), seed=SEED)
def test_all_steps_but_one_are_full(rows, size, seed):
    lengths, repeats = zip(*rows, strict=True)
    sizes = [len(step[0]) for step in plan_epoch(lengths, repeats, Budget(size, None, 1), seed, 0)]
    assert sum(n != size for n in sizes) == (1 if sum(repeats) % size else 0)


@QUICK
@given(lengths=st.lists(st.integers(1, 60), max_size=80), tokens=st.integers(1, 200))
def test_evaluation_sees_every_row_once_within_the_budget(lengths, tokens):
    batches = evaluation_batches(lengths, tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= tokens for b in batches)


def example(prompt, answer):
    return Example(messages=(Message(role="user", content=prompt), Message(role="assistant", content=answer)))


EXAMPLES = st.lists(
    st.builds(
        example, st.sampled_from(["a", "A ", " a", "b", "B\n", "c", "d e", "D  E", "f", "g", "h"]), st.text(min_size=1)
    ),
    max_size=40,
)


@QUICK
@given(rows=EXAMPLES, share=st.floats(0, 0.999), seed=SEED)
def test_holding_out_never_splits_a_prompt_and_never_loses_a_row(rows, share, seed):
    kept, held = hold_out(rows, share, seed)
    assert sorted(kept + held) == list(range(len(rows)))
    assert not len(overlapping(Keys.of([rows[i] for i in kept]), Keys.of([rows[i] for i in held]))[0])
    groups = Counter(row.prompt_key() for row in rows)
    if share > 0 and len(groups) > 1:
        assert kept
        assert held
        wanted = max(1, round(share * len(rows)))
        assert len(held) <= wanted or len({rows[i].prompt_key() for i in held}) == 1
    else:
        assert not held


@QUICK
@given(rows=st.integers(0, 300), weight=st.floats(0.001, 8), seed=SEED)
def test_a_weight_gives_its_share_and_treats_rows_alike(rows, weight, seed):
    counts = repetitions(rows, weight, seed)
    assert len(counts) == rows
    assert sum(counts) == round(rows * weight)
    assert not counts or max(counts) - min(counts) <= 1


@QUICK
@given(
    kind=st.sampled_from(["cosine", "linear", "constant"]), total=st.integers(1, 400), warmup=st.floats(0, 500)
)  # fmt: skip
def test_the_learning_rate_rises_then_never_rises_again_and_stays_in_bounds(kind, total, warmup):
    rise = schedule.warmup_steps(warmup, total)
    factors = [schedule.factor(kind, step, total, rise) for step in range(total)]
    assert all(0 < f <= 1 for f in factors)
    assert np.all(np.diff(factors[:rise]) > 0)
    assert np.all(np.diff(factors[rise:]) <= 0)
    if kind == "constant":
        assert set(factors[rise:]) <= {1.0}
    elif rise < total:
        assert schedule.factor(kind, total, total, rise) < 1e-9
