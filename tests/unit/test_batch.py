"""Padding, evaluation batches and the plan's edges. The plan's laws are in properties/test_plan.py."""

import numpy as np
import pytest

from tunesmith.data.batch import Budget, collate, evaluation_batches, plan_epoch
from tunesmith.data.tokenize import Encoded
from tunesmith.engine.config import TrainingSpec
from tunesmith.engine.steps import Steps


def encoded(*ids, weight=1.0):
    return Encoded(np.array(ids, dtype=np.int32), np.full(len(ids), weight, dtype=np.float32))


def test_collate_pads_on_the_right_without_mask_or_loss():
    batch = collate([encoded(5, 6, 7), encoded(8, weight=0.5)], pad_id=99)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 99, 99]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.loss_weight.tolist() == [[1, 1, 1], [0.5, 0, 0]]
    assert batch.attention_mask.sum() == 4


def test_a_row_longer_than_the_budget_goes_alone():
    batches = evaluation_batches([3, 50, 2, 3], tokens=10)
    assert batches == [[2, 0, 3], [1]]


def test_epochs_differ_and_repeat_for_the_same_seed():
    lengths, repeats = list(range(5, 105)), [1] * 100
    budget = Budget(4, None, 2)
    first = plan_epoch(lengths, repeats, budget, seed=1, epoch=0)
    assert first == plan_epoch(lengths, repeats, budget, seed=1, epoch=0)
    assert first != plan_epoch(lengths, repeats, budget, seed=1, epoch=1)
    assert first != plan_epoch(lengths, repeats, budget, seed=2, epoch=0)


def test_rows_of_like_length_share_a_batch():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 500, size=800).tolist()
    steps = plan_epoch(lengths, [1] * 800, Budget(8, None, 1), seed=0, epoch=0)
    padded = sum(len(micro) * max(lengths[i] for i in micro) for step in steps for micro in step)
    random_order = sum(8 * max(lengths[i : i + 8]) for i in range(0, 800, 8))
    assert padded < 1.15 * sum(lengths) < 0.75 * random_order


def test_steps_of_an_epoch_are_not_sorted_by_length():
    lengths = list(range(1, 129))
    steps = plan_epoch(lengths, [1] * 128, Budget(8, None, 1), seed=0, epoch=0)
    means = [np.mean([lengths[i] for i in step[0]]) for step in steps]
    assert means != sorted(means)


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"epochs": 1}, 7), ({"epochs": 2}, 14), ({"epochs": 0.5}, 4), ({"epochs": 1.5}, 11), ({"epochs": 0.001}, 1),
        ({"epochs": 3, "max_steps": 5}, 5), ({"epochs": 1, "max_steps": 50}, 7), ({"epochs": 1, "batch_size": 50}, 2),
        ({"epochs": 1, "batch_size": 8, "gradient_accumulation": 2}, 7),
        ({"epochs": 1, "batch_size": 200}, 1),
    ],
)  # fmt: skip
def test_the_number_of_steps(options, total):
    steps = Steps([10] * 100, [1] * 100, TrainingSpec(**options), seed=0)
    assert steps.total == total
    assert [number for number, _ in steps.after(0)] == list(range(total))


def test_a_resumed_training_sees_the_same_steps():
    steps = Steps(list(range(1, 51)), [1, 2] * 25, TrainingSpec(epochs=2.5, batch_size=4), seed=9)
    whole = list(steps.after(0))
    for done in (1, 7, len(whole) - 1, len(whole)):
        assert list(steps.after(done)) == whole[done:]


def test_cadence():
    steps = Steps([10] * 1600, [1] * 1600, TrainingSpec(epochs=1), seed=0)
    assert steps.total == 100
    auto = steps.resolve_cadence(TrainingSpec())
    assert (auto.evaluate_every, auto.checkpoint_every) == (10, 10)
    given = steps.resolve_cadence(TrainingSpec(evaluate_every=3, checkpoint_every=7))
    assert (given.evaluate_every, given.checkpoint_every) == (3, 7)
    assert steps.resolve_cadence(TrainingSpec(evaluate_every=3)).checkpoint_every == 3
