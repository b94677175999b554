"""A running mean of the weights over the steps (Polyak & Juditsky 1992; in the exponential form used for deep
networks): shadow = decay x shadow + (1 - decay) x weight after every update, float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter

from .distributed import like


class Ema:
    """The shadow of every trained parameter. `decay` grows from small values in the first steps, as
    min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten."""

    def __init__(self, decay: float, named: dict[str, Parameter]):
        self._decay, self._named = decay, named
        self.shadow = {name: parameter.detach().clone() for name, parameter in named.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._named.items():
            self.shadow[name].lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back a shadow."""
        for name, shadow in self.shadow.items():
            shadow.copy_(like(tensors[name], shadow))

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Inside the block the model has the mean weights."""
        kept = {name: parameter.detach().clone() for name, parameter in self._named.items()}
        self._put(self.shadow)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._named.items():
            parameter.copy_(values[name])
