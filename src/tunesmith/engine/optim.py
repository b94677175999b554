"""Optimizers over named parameters, and their state as plain tensors under names."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from .config import TrainingSpec


class Optimizers:
    """One optimizer, or two that share the parameters between them; one learning rate for all."""

    def __init__(self, parts: Iterable[torch.optim.Optimizer], named: dict[str, Parameter]):
        self._parts = list(parts)
        self._named = named

    def step(self) -> None:
        """Update every parameter."""
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

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
            owner[parameter].state[parameter][kind] = value.clone()


def build(spec: TrainingSpec, named: dict[str, Parameter], model: nn.Module, learning_rate: float) -> Optimizers:
    """The recipe's optimizer. Weight decay is for hidden matrices: not for vectors, not for embeddings or the head."""
    tables = _tables(model)
    hidden = [p for p in named.values() if p.ndim >= 2 and p not in tables]
    rest = [p for p in named.values() if p.ndim < 2 or p in tables]
    groups = [{"params": hidden, "weight_decay": spec.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    filled = [group for group in groups if group["params"]]
    if spec.optimizer == "adafactor":
        return Optimizers([torch.optim.Adafactor(filled, lr=learning_rate)], named)
    if spec.optimizer == "muon" and hidden:
        parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=learning_rate, weight_decay=spec.weight_decay, adjust_lr_fn="match_rms_adamw")
        ]
        if rest:
            parts.append(torch.optim.AdamW(rest, lr=learning_rate, betas=spec.betas, weight_decay=0.0))
        return Optimizers(parts, named)
    return Optimizers([torch.optim.AdamW(filled, lr=learning_rate, betas=spec.betas)], named)


def _tables(model: nn.Module) -> set[Parameter]:
    """Parameters of embeddings, and of the vocabulary head."""
    found = {p for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return found | (set(head.parameters()) if head is not None else set())
