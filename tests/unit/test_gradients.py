"""Clipping: gradients are scaled down to the norm of the recipe, and the norm that is told is that before. Pieces: a
micro-batch computed some rows at a time is the same step."""

from __future__ import annotations

import math

import pytest
import torch
from test_loss import _rows, _training

import tiny
from tunesmith.adapters.config import LayersSpec, LoraSpec, PromptSpec
from tunesmith.adapters.lora import Lora
from tunesmith.data.batch import within
from tunesmith.engine import gradients as engine
from tunesmith.engine.distributed import ALONE
from tunesmith.engine.gradients import Gradients, tokens_at_once
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


def test_a_step_in_pieces_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    norm, whole = _computed(None)
    monkeypatch.setattr(engine, "AT_ONCE", 1)
    seen: list[int] = []
    plain = Sft.loss_sum
    monkeypatch.setattr(Sft, "loss_sum", lambda *a: (seen.append(len(a[2].input_ids_BL)), plain(*a))[1])
    told, pieces = _computed(None)
    assert seen == [1] * 5
    assert told == pytest.approx(norm, rel=1e-5)
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, rtol=1e-4, atol=1e-7)


def test_pieces_are_of_so_many_padded_tokens_or_one_row() -> None:
    assert within([3, 1, 0, 2], [5, 9, 4, 5], 10) == [[3], [1], [0, 2]]
    assert within([3, 1], [5, 9, 4, 5], None) == [[3, 1]]
    model = tiny.model()
    hidden, layers = model.config.hidden_size, model.config.num_hidden_layers
    assert tokens_at_once(model) == engine.AT_ONCE // (34 * hidden * layers * 2)
    assert layers == 2
    for spec, kept in ((LoraSpec(r=4, last=1), 1), (LoraSpec(r=4), 2), (LayersSpec(names=("lm_head",)), 1),
                       (LayersSpec(names=("embed_tokens",)), 2), (PromptSpec(tokens=2), 2)):  # fmt: skip
        part = tiny.model()
        spec.build().attach(part)
        assert tokens_at_once(part) == engine.AT_ONCE // (34 * hidden * kept * 2), spec
    assert tokens_at_once(model.bfloat16()) == engine.AT_ONCE // (34 * hidden * layers)
