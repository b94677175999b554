"""Signs of memorised rows, against hand-worked numbers and scikit-learn; and the skill suite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tunesmith.data.template import PLAIN_TEMPLATE
from tunesmith.evaluation import memorisation
from tunesmith.evaluation.memorisation import Seen, drawn, facts, longest_run, membership
from tunesmith.evaluation.skills import CHOICES, Item, mastered, suite
from tunesmith.models.find import find
from tunesmith.models.load import model as load
from tunesmith.models.refs import DEFAULT
from tunesmith.models.tokenizer import tokenizer as load_tokenizer

tokens = st.lists(st.integers(0, 3), max_size=12)


@given(tokens, tokens)
def test_the_longest_run_is_that_of_comparing_all_stretches(a: list[int], b: list[int]) -> None:
    stretches = {tuple(b[i:j]) for i in range(len(b)) for j in range(i + 1, len(b) + 1)}
    wanted = max(
        (j - i for i in range(len(a)) for j in range(i + 1, len(a) + 1) if tuple(a[i:j]) in stretches), default=0
    )
    assert longest_run(a, b) == wanted


def test_membership_is_hand_worked() -> None:
    """Of the 2 x 3 pairs of a training and a held-out row the training row has the lower loss in five: AUC 5/6. Only
    the first training row lies below every held-out one: 1/2 are found without a false alarm."""
    found = membership(np.array([0.1, 0.5]), np.array([0.4, 0.6, 0.9]), seed=0)
    assert found.auc == pytest.approx(5 / 6)
    assert found.tpr_at_1_fpr == 0.5
    assert found.ci95[0] <= found.auc <= found.ci95[1]


def test_the_fast_area_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        a, b = draw.integers(0, 5, 30) / 4, draw.integers(0, 5, 40) / 4
        truth = np.repeat([1, 0], [30, 40])
        assert memorisation._auc(a, b) == pytest.approx(roc_auc_score(truth, -np.concatenate((a, b))))


def test_rows_that_the_base_finds_easy_are_not_taken_for_known_ones() -> None:
    """The training rows are easier for both models; only against the base it shows that nothing was memorised."""
    draw = np.random.default_rng(1)
    easy, hard = draw.normal(1, 0.1, 300), draw.normal(2, 0.1, 300)
    noise = draw.normal(0, 0.01, 600)
    none = np.zeros(0, dtype=np.int64)
    found = facts(
        Seen(easy, none, none), Seen(easy - 0.5 + noise[:300], none, none), hard, hard - 0.5 + noise[300:], seed=0
    )["membership"]
    assert found["tuned"]["auc"] > 0.99
    low, high = found["against_base"]["ci95"]
    assert low < 0.5 < high


def test_what_comes_back_word_for_word_is_counted() -> None:
    losses = np.ones(3)
    seen = Seen(losses, np.array([60, 10, 0]), np.array([60, 40, 5]))
    none = Seen(losses, np.zeros(3, dtype=np.int64), seen.whole)
    found = facts(none, seen, np.ones(1), np.ones(1), seed=0)
    assert found["verbatim"]["tuned"] == {
        "longest": 60, "share_over": pytest.approx(1 / 3), "mean_share": pytest.approx((1 + 0.25 + 0) / 3)
    }  # fmt: skip
    assert found["verbatim"]["base"]["longest"] == 0
    assert "membership" not in found, "one held-out row tells nothing"


def test_the_sample_is_drawn_by_the_seed() -> None:
    assert drawn(5, 10, 0) == [0, 1, 2, 3, 4]
    assert drawn(1000, 10, 0) == drawn(1000, 10, 0) != drawn(1000, 10, 1)
    assert len(set(drawn(1000, 10, 0))) == 10


@pytest.fixture(scope="module")
def base() -> tuple[Any, Any]:
    found = find(DEFAULT)
    model = load(found, torch.float32)
    model.eval()
    return model, load_tokenizer(found, PLAIN_TEMPLATE)


def test_the_suite_is_whole_and_the_bundled_base_does_better_than_guessing(base: tuple[Any, Any]) -> None:
    items = suite()
    assert all(len(set(item.choices)) == CHOICES for item in items)
    assert len({(item.text, item.choices[0]) for item in items}) > 110
    model, tokenizer = base
    right = mastered(model, tokenizer, pad_id=tokenizer.pad_token_id, number_type="fp32")
    assert right.shape == (120,)
    assert 65 <= right.sum() <= 90, "a guess is right in 40"


def test_a_choice_is_judged_by_its_loss_a_character(base: tuple[Any, Any]) -> None:
    model, tokenizer = base
    items = [
        Item("x", "He drank a glass of", ("water", "zebra xylophone", "qqqq")),
        Item("x", "a", ("zq", "zq", "the")),
    ]
    how: dict[str, Any] = {"pad_id": tokenizer.pad_token_id, "number_type": "fp32", "items": items}
    assert mastered(model, tokenizer, **how).tolist() == [True, False], "a tie is not right"


def test_a_model_that_lost_its_weights_guesses(base: tuple[Any, Any]) -> None:
    _, tokenizer = base
    ruined = load(find(DEFAULT), torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in ruined.parameters():
            parameter.normal_(0, 0.02)
    right = mastered(ruined.eval(), tokenizer, pad_id=tokenizer.pad_token_id, number_type="fp32")
    assert right.sum() < 62
