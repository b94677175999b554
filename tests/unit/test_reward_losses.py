"""The reward model's loss: numbers worked by hand, gradient, symmetries, extremes."""

from __future__ import annotations

import math

import pytest
import torch

from tunesmith.methods.reward.losses import bradley_terry

CHOSEN_N = torch.tensor([2.0, 0.5], dtype=torch.float64)
REJECTED_N = torch.tensor([1.0, 0.5], dtype=torch.float64)


def test_by_hand() -> None:
    """2 - 1 = 1: log(1 + e^-1) = 0.3132617. 0.5 - 0.5 = 0: log 2."""
    assert bradley_terry(CHOSEN_N, REJECTED_N).tolist() == pytest.approx([0.3132616875, math.log(2)], abs=1e-9)


def test_margin_by_hand() -> None:
    """2 - 1 - 1 = 0: log 2. 0.5 - 0.5 - 1.5 = -1.5: log(1 + e^1.5) = 1.7014133."""
    margin_N = torch.tensor([1.0, 1.5], dtype=torch.float64)
    got = bradley_terry(CHOSEN_N, REJECTED_N, margin_N).tolist()
    assert got == pytest.approx([math.log(2), 1.7014132780], abs=1e-9)


def test_centring_by_hand() -> None:
    """0.01 x (2 + 1)^2 = 0.09 beside 0.3132617; 0.01 x (0.5 + 0.5)^2 = 0.01 beside log 2."""
    got = bradley_terry(CHOSEN_N, REJECTED_N, centring=0.01).tolist()
    assert got == pytest.approx([0.4032616875, math.log(2) + 0.01], abs=1e-9)


def test_gradient() -> None:
    scores = (CHOSEN_N.clone().requires_grad_(), REJECTED_N.clone().requires_grad_())
    margin_N = torch.tensor([0.3, 1.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda c, r: bradley_terry(c, r, margin_N, 0.1), scores)


def test_only_the_difference_counts_until_it_is_centred() -> None:
    plain_N = bradley_terry(CHOSEN_N, REJECTED_N)
    torch.testing.assert_close(bradley_terry(CHOSEN_N + 7, REJECTED_N + 7), plain_N)
    assert (bradley_terry(CHOSEN_N + 7, REJECTED_N + 7, centring=0.01) > plain_N + 1).all()
    swapped_N = bradley_terry(REJECTED_N, CHOSEN_N)
    torch.testing.assert_close(swapped_N - plain_N, CHOSEN_N - REJECTED_N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(dtype: torch.dtype) -> None:
    chosen_N = torch.tensor([1e4, -1e4], dtype=dtype, requires_grad=True)
    loss_N = bradley_terry(chosen_N, -chosen_N.detach(), centring=0.01)
    loss_N.sum().backward()
    assert loss_N.dtype == dtype
    assert loss_N.isfinite().all()
    assert chosen_N.grad is not None
    assert chosen_N.grad.isfinite().all()
