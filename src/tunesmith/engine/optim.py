"""Optimizers over named parameters, and their state as plain tensors under names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """The recipe's optimizer. Weight decay is for hidden matrices: not for vectors, not for embeddings or the head."""
    tables = _tables(model)
    hidden = [p for p in named.values() if p.ndim >= 2 and p not in tables]
    rest = [p for p in named.values() if p.ndim < 2 or p in tables]
    groups = [{"params": hidden, "weight_decay": spec.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    filled = [group for group in groups if group["params"]]
    return Optimizers(list(_parts(spec, hidden, filled, rest, learning_rate)), named)


def _parts(
    spec: TrainingSpec, hidden: list[Parameter], groups: list[dict[str, Any]], rest: list[Parameter], rate: float
) -> Iterator[torch.optim.Optimizer]:
    """The optimizer of the recipe's name over all groups; for Muon, which takes matrices only, two."""
    betas = spec.optimizer.betas
    match spec.optimizer.type:
        case "adafactor":
            yield torch.optim.Adafactor(groups, lr=rate)
        case "adamw8bit":
            yield AdamW8bit(groups, lr=rate, betas=betas)
        case "muon" if hidden:
            yield torch.optim.Muon(hidden, lr=rate, weight_decay=spec.weight_decay, adjust_lr_fn="match_rms_adamw")
            if rest:
                yield torch.optim.AdamW(rest, lr=rate, betas=betas, weight_decay=0.0, fused=True)
        case _:
            yield torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def _tables(model: nn.Module) -> set[Parameter]:
    """Parameters of embeddings, and of the vocabulary head."""
    found = {p for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return found | (set(head.parameters()) if head is not None else set())
