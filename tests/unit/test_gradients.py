"""Clipping: gradients are scaled down to the norm of the recipe, and the norm that is told is that before."""

from __future__ import annotations

import math

import pytest
import torch
from test_loss import _rows, _training

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.lora import Lora
from tunesmith.engine.distributed import ALONE
from tunesmith.engine.gradients import Gradients
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft

STEP = [[0, 1, 2], [3, 4]]


def _computed(clip: float | None) -> tuple[float, dict[str, torch.Tensor]]:
    """(the norm that is told, gradients by name) of a step of two micro-batches."""
    model, adapter = tiny.model(), Lora(LoraSpec(r=4))
    torch.manual_seed(0)
    adapter.attach(model)
    spec = _training(batch_size=3, gradient_accumulation=2, clip_norm=clip)
    trainable = adapter.parameters()
    gradients = Gradients(model, trainable, Sft(SftSpec()), _rows(5), spec, 0, ALONE, pytest.fail)
    measured = gradients.compute(0, STEP)
    return measured.norm, {name: p.grad for name, p in trainable.items() if p.grad is not None}


def _norm(gradients: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(g.double().pow(2).sum()) for g in gradients.values()))


def test_without_a_limit_gradients_are_left_alone() -> None:
    told, plain = _computed(None)
    assert told == pytest.approx(_norm(plain), rel=1e-5)
    far, same = _computed(1000 * told)
    assert far == told
    assert plain.keys() == same.keys()
    assert all(torch.equal(plain[name], same[name]) for name in plain)


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_clipped_gradients_keep_their_direction_and_the_norm_before_is_told(share: float) -> None:
    whole, plain = _computed(None)
    told, clipped = _computed(share * whole)
    assert told == whole
    assert _norm(clipped) <= share * whole * (1 + 1e-5)
    for name, gradient in plain.items():
        torch.testing.assert_close(clipped[name], share * gradient, rtol=1e-4, atol=1e-9)


def test_the_limit_of_a_recipe_is_one() -> None:
    assert _training().clip_norm == 1.0
