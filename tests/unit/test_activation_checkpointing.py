"""Activation checkpointing changes memory, not results: losses and gradients bit for bit, dropout on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_loss import _batch, _rows

import tiny
from tunesmith.adapters.config import FullSpec, LoraSpec
from tunesmith.engine.config import DevicesSpec, TrainingSpec
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft
from tunesmith.pipelines import train


class _Bench:
    def __init__(self, model: Any):
        self.model = model


class _Prepared:
    def __init__(self, *, on: bool):
        training = TrainingSpec(devices=DevicesSpec(activation_checkpointing=on))
        self.spec = type("Spec", (), {"training": training})()


def _gradients(kind: str, spec: Any, *, on: bool) -> tuple[float, dict[str, torch.Tensor], int]:
    model, adapter = tiny.model(kind), spec.build()
    torch.manual_seed(1)
    adapter.attach(model)
    with torch.no_grad():
        for name, parameter in adapter.parameters().items():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.1)
    train._arrange(_Prepared(on=on), _Bench(model), train.ALONE)
    model.train()
    passes = []
    layer = next(m for m in model.modules() if type(m).__name__.endswith(("DecoderLayer", "Block")))
    inner = next(iter(layer.children()))
    inner.register_forward_hook(lambda *_: passes.append(1))
    torch.manual_seed(2)
    loss = Sft(SftSpec()).loss_sum(model, _batch(_rows(4)))
    loss.backward()
    return loss.item(), {n: p.grad for n, p in adapter.parameters().items()}, len(passes)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("spec", [LoraSpec(r=4, dropout=0.3), FullSpec()], ids=["lora", "full"])
def test_the_same_loss_and_gradients_with_a_second_forward_pass(kind: str, spec: Any) -> None:
    plain, wanted, once = _gradients(kind, spec, on=False)
    loss, gradients, twice = _gradients(kind, spec, on=True)
    assert (once, twice) == (1, 2), "nothing was computed again"
    assert loss == plain
    for name, gradient in wanted.items():
        assert gradient is not None
        assert torch.equal(gradients[name], gradient), name
