"""Optimizers over named parameters, and their state as plain tensors under names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from .adamw8bit import AdamW8bit
from .config import TrainingSpec
from .distributed import like


class Optimizers:
    """One optimizer, or two that share the parameters between them; one learning rate for all."""

    def __init__(self, parts: Iterable[torch.optim.Optimizer], named: dict[str, Parameter]):
        self._parts = list(parts)
        self._named = named

    def step(self) -> None:
        """Update every parameter."""
        for part in self._parts:
            part.step()

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self._parts[0].param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for group in (group for part in self._parts for group in part.param_groups):
            group["lr"] = rate

    def state_tensors(self) -> dict[str, Tensor]:
        """Every state tensor under `<kind>|<parameter name>`, for safetensors."""
        return {
            f"{kind}|{name}": value
            for name, parameter in self._named.items()
            for part in self._parts
            for kind, value in part.state.get(parameter, {}).items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state_tensors` gave."""
        owner = {p: part for part in self._parts for group in part.param_groups for p in group["params"]}
        for key, value in tensors.items():
            kind, _, name = key.partition("|")
            parameter = self._named[name]
            part = owner[parameter]
            # Only a fused optimizer counts its steps on the device; the others read the count on the host.
            device = value.device if kind == "step" and not part.defaults.get("fused") else parameter.device
            part.state[parameter][kind] = like(value.to(device, copy=True), parameter)


def build(spec: TrainingSpec, named: dict[str, Parameter], model: nn.Module, learning_rate: float) -> Optimizers:
    """The recipe's optimizer. Weight decay is for hidden matrices: not for vectors or biases of any shape (those of
    fused experts have two dimensions), not for embeddings or the head."""
    tables = _tables(model)
    decays = {name: p.ndim >= 2 and p not in tables and not name.endswith("bias") for name, p in named.items()}
    hidden = [p for name, p in named.items() if decays[name]]
    rest = [p for name, p in named.items() if not decays[name]]
    parts: list[torch.optim.Optimizer] = []
    if spec.optimizer.type == "muon":  # it takes matrices alone: fused experts lie in three dimensions
        matrices, hidden = [p for p in hidden if p.ndim == 2], [p for p in hidden if p.ndim != 2]
        if matrices:
            parts.append(_muon(matrices, spec, learning_rate))
    groups = [{"params": hidden, "weight_decay": spec.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    filled = [group for group in groups if group["params"]]
    if filled:
        parts.append(_elementwise(filled, spec, learning_rate))
    return Optimizers(parts, named)


def _muon(matrices: list[Parameter], spec: TrainingSpec, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Muon(matrices, lr=rate, weight_decay=spec.weight_decay, adjust_lr_fn="match_rms_adamw")


def _elementwise(groups: list[dict[str, Any]], spec: TrainingSpec, rate: float) -> torch.optim.Optimizer:
    """For parameters of any shape; AdamW beside Muon."""
    match spec.optimizer.type:
        case "adafactor":
            return torch.optim.Adafactor(groups, lr=rate)
        case "adamw8bit":
            return AdamW8bit(groups, lr=rate, betas=spec.optimizer.betas)
        case _:
            return torch.optim.AdamW(groups, lr=rate, betas=spec.optimizer.betas, fused=True)


def _tables(model: nn.Module) -> set[Parameter]:
    """Parameters of embeddings, and of the vocabulary head."""
    found = {p for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return found | (set(head.parameters()) if head is not None else set())
