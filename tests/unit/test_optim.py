"""Optimizers: who gets weight decay, and state that survives a checkpoint."""

from __future__ import annotations

import pytest
import torch

import tiny
from tunesmith.engine import optim
from tunesmith.engine.config import TrainingSpec

KINDS = ("adamw", "adafactor", "muon")


def _built(kind: str, weight_decay: float = 0.0):
    model = tiny.model("llama")
    model.requires_grad_(True)
    named = dict(model.named_parameters())
    spec = TrainingSpec(optimizer=kind, weight_decay=weight_decay)
    return model, named, optim.build(spec, named, model, 0.01)


def _step(model, optimizer) -> None:
    ids = torch.tensor([[1, 5, 9, 13, 17]])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_updated_and_the_loss_falls(kind: str) -> None:
    model, named, optimizer = _built(kind)
    before = {name: p.detach().clone() for name, p in named.items()}
    ids = torch.tensor([[1, 5, 9, 13, 17]])
    first = model(input_ids=ids, labels=ids).loss.item()
    for _ in range(5):
        _step(model, optimizer)
    assert [name for name, p in named.items() if torch.equal(p, before[name])] == []
    assert model(input_ids=ids, labels=ids).loss.item() < first


@pytest.mark.parametrize("kind", KINDS)
def test_state_put_back_goes_on_bit_for_bit(kind: str) -> None:
    model, named, optimizer = _built(kind)
    _step(model, optimizer)
    weights = {name: p.detach().clone() for name, p in named.items()}
    state = optimizer.state_tensors()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    copied = {key: value.clone() for key, value in state.items()}
    _step(model, optimizer)

    again, names, other = _built(kind)
    with torch.no_grad():
        for name, p in names.items():
            p.copy_(weights[name])
    other.load_state_tensors(copied)
    _step(again, other)
    for name, p in named.items():
        assert torch.equal(p, names[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_is_for_hidden_matrices_only(kind: str) -> None:
    _, named, optimizer = _built(kind, weight_decay=0.1)
    decayed = {
        p for part in optimizer._parts for group in part.param_groups if group["weight_decay"] for p in group["params"]
    }
    names = {name for name, p in named.items() if p in decayed}
    assert "model.embed_tokens.weight" not in names
    assert not any("norm" in name or "lm_head" in name for name in names)
    assert "model.layers.0.self_attn.q_proj.weight" in names
