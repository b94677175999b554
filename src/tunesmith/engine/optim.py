"""Optimizers over named parameters, and their state as plain tensors under names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from .adamw8bit import AdamW8bit
from .config import TrainingSpec
from .distributed import like

_MULTIPLE = "multiple"
"""In a parameter group: its learning rate as a multiple of the training's."""


class Optimizers:
    """One optimizer, or two that share the parameters between them; one learning rate, or multiples of it."""

    def __init__(self, parts: Iterable[torch.optim.Optimizer], named: dict[str, Parameter]):
        self._parts = list(parts)
        self._named = named
        self._rate = 0.0

    def step(self) -> None:
        """Update every parameter."""
        for part in self._parts:
            part.step()

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._rate = rate
        for group in (group for part in self._parts for group in part.param_groups):
            group["lr"] = rate * group[_MULTIPLE]

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


def build(
    spec: TrainingSpec, named: dict[str, Parameter], model: nn.Module, learning_rate: float,
    multiples: Mapping[str, float] | None = None,
) -> Optimizers:  # fmt: skip
    """The recipe's optimizer. Weight decay is for hidden matrices: not for vectors or biases of any shape (those of
    fused experts have two dimensions), not for embeddings or the head.

    `multiples` names parameters that learn at a multiple of the rate, whatever the schedule makes of it.
    """
    tables, multiples = _tables(model), multiples or {}
    wanted = {p: multiples.get(name, 1.0) for name, p in named.items()}
    decays = {name: p.ndim >= 2 and p not in tables and not name.endswith("bias") for name, p in named.items()}
    hidden = [p for name, p in named.items() if decays[name]]
    rest = [p for name, p in named.items() if not decays[name]]
    parts: list[torch.optim.Optimizer] = []
    if spec.optimizer.type == "muon":  # it takes matrices alone: fused experts lie in three dimensions
        matrices, hidden = [p for p in hidden if p.ndim == 2], [p for p in hidden if p.ndim != 2]
        if matrices:
            parts.append(_muon(_groups(matrices, wanted, spec.weight_decay), spec, learning_rate))
    groups = _groups(hidden, wanted, spec.weight_decay) + _groups(rest, wanted, 0.0)
    if groups:
        parts.append(_elementwise(groups, spec, learning_rate))
    made = Optimizers(parts, named)
    made.learning_rate = learning_rate
    return made


def _groups(parameters: list[Parameter], wanted: dict[Parameter, float], weight_decay: float) -> list[dict[str, Any]]:
    """One group for each multiple of the rate, in the parameters' order."""
    by_multiple: dict[float, list[Parameter]] = {}
    for parameter in parameters:
        by_multiple.setdefault(wanted[parameter], []).append(parameter)
    return [{"params": ps, "weight_decay": weight_decay, _MULTIPLE: multiple} for multiple, ps in by_multiple.items()]


def _muon(groups: list[dict[str, Any]], spec: TrainingSpec, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Muon(groups, lr=rate, weight_decay=spec.weight_decay, adjust_lr_fn="match_rms_adamw")


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
