"""A low-rank addition is the same whether something learns from it or a model answers with it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tunesmith.adapters import lowrank

DRAW = torch.Generator().manual_seed(5)
DOWN, UP, SCALE = torch.randn(4, 48, generator=DRAW), torch.randn(40, 4, generator=DRAW), 0.7


def _given(rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x, out, what is wanted in float64)."""
    x, out = torch.randn(rows, 1, 48, generator=DRAW).to(dtype), torch.randn(rows, 1, 40, generator=DRAW).to(dtype)
    wanted = out.double() + SCALE * F.linear(F.linear(x.double(), DOWN.double()), UP.double())
    return x, out, wanted


@pytest.mark.parametrize("rows", [3, lowrank.FEW + 1])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=["fp32", "bf16"])
def test_an_answering_model_adds_what_a_learning_one_does(rows: int, dtype: torch.dtype, near: float) -> None:
    x, out, wanted = _given(rows, dtype)
    learning = lowrank.plus(out.clone(), x, DOWN, UP, SCALE)
    with torch.inference_mode():
        answering = lowrank.plus(out.clone(), x, DOWN, UP, SCALE)
    assert learning.dtype == answering.dtype == dtype
    size = float(wanted.abs().max())
    errors = [float((found.double() - wanted).abs().max()) / size for found in (learning, answering)]
    assert errors[1] <= max(errors[0], 1e-6)
    assert max(errors) < near


def test_what_is_learned_through_keeps_its_gradient_and_its_input() -> None:
    x, out, _ = _given(3, torch.float32)
    down, before = DOWN.clone().requires_grad_(), out.clone()
    lowrank.plus(out, x, down, UP, SCALE).sum().backward()
    assert down.grad is not None
    assert down.grad.abs().sum() > 0
    assert torch.equal(out, before)
