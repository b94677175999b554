"""Optimizers over named parameters, and their state as plain tensors under names."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from .config import TrainingSpec


def build(spec: TrainingSpec, named: dict[str, Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only."""
    matrices = [p for p in named.values() if p.ndim >= 2]
    vectors = [p for p in named.values() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": spec.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=spec.betas)


def state_tensors(optimizer: torch.optim.Optimizer, named: dict[str, Parameter]) -> dict[str, Tensor]:
    """Every state tensor under `<kind>|<parameter name>`, for safetensors."""
    return {
        f"{kind}|{name}": value
        for name, parameter in named.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def load_state_tensors(
    optimizer: torch.optim.Optimizer, named: dict[str, Parameter], tensors: dict[str, Tensor]
) -> None:
    """Put back what `state_tensors` gave."""
    for key, value in tensors.items():
        kind, _, name = key.partition("|")
        optimizer.state[named[name]][kind] = value.clone()


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """One rate for all groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
