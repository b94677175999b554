"""AdamW with both running means in 8 bits (Dettmers et al. 2021, arXiv 2110.02861).

Each block of 256 values shares a scale, its largest magnitude; a value is kept as the place of the nearest entry in
a table of 256 whose entries lie densest at zero ("dynamic tree" of section 2, without its bit layout: the table is
searched). Weights stay as they are; only the state shrinks, from 8 bytes a weight to about 2. State is dequantised for
one parameter at a time. Departs from the paper in nothing but this: small parameters (fewer than 4,096 values) keep
state in float32, as the authors' own library does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BLOCK = 256
SMALL = 4096


def table(*, signed: bool) -> Tensor:
    """The 256 values in [-1, 1] (or [0, 1]) that an 8-bit number stands for, ascending, float32."""
    exponents, largest = (range(7), 6) if signed else (range(1, 8), 7)
    magnitudes = [0.0, 1.0]
    for exponent in exponents:
        edges = torch.linspace(0.1, 1.0, 2**exponent + 1, dtype=torch.float64)
        middles = (edges[:-1] + edges[1:]) / 2
        magnitudes += (middles * 10.0 ** (exponent - largest)).tolist()
    positive = torch.tensor(sorted(magnitudes), dtype=torch.float64)
    values = torch.cat([-positive[1:-1].flip(0), positive]) if signed else positive
    return values.float()


def quantise(values: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """(places [n] uint8, scales [n / 256] float32) of a tensor of n values."""
    blocks = torch.nn.functional.pad(values.flatten(), (0, -values.numel() % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    shares = blocks / scales.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)
    middles = (entries[:-1] + entries[1:]) / 2
    places = torch.bucketize(shares, middles, out_int32=True).to(torch.uint8)
    return places.flatten()[: values.numel()].clone(), scales


def dequantise(places: Tensor, scales: Tensor, entries: Tensor, shape: torch.Size) -> Tensor:
    """The values again, as [*shape] in float32."""
    values = entries[places.int()]
    spread = scales.repeat_interleave(BLOCK)[: places.numel()]
    return (values * spread).view(shape)


class AdamW8bit(torch.optim.Optimizer):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) over 8-bit state. Parameters in float32."""

    def __init__(
        self, parameters: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._signed, self._unsigned = table(signed=True), table(signed=False)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        first, second = self._read(state, parameter)
        state["step"] = state.get("step", torch.zeros((), dtype=torch.float32)) + 1
        number = float(state["step"])
        beta1, beta2 = group["betas"]
        gradient = parameter.grad.float()  # type: ignore[union-attr]
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        size = (second.sqrt() / (1 - beta2**number) ** 0.5).add_(group["eps"])
        parameter.addcdiv_(first, size, value=-group["lr"] / (1 - beta1**number))
        self._write(state, first, second)

    def _read(self, state: dict[str, Tensor], parameter: Tensor) -> tuple[Tensor, Tensor]:
        if not state:
            return torch.zeros_like(parameter, dtype=torch.float32), torch.zeros_like(parameter, dtype=torch.float32)
        if "exp_avg" in state:
            return state["exp_avg"], state["exp_avg_sq"]
        signed, unsigned = self._signed.to(parameter.device), self._unsigned.to(parameter.device)
        return (
            dequantise(state["exp_avg_8bit"], state["exp_avg_scale"], signed, parameter.shape),
            dequantise(state["exp_avg_sq_8bit"], state["exp_avg_sq_scale"], unsigned, parameter.shape),
        )

    def _write(self, state: dict[str, Tensor], first: Tensor, second: Tensor) -> None:
        if first.numel() < SMALL:
            state["exp_avg"], state["exp_avg_sq"] = first, second
            return
        state["exp_avg_8bit"], state["exp_avg_scale"] = quantise(first, self._signed.to(first.device))
        state["exp_avg_sq_8bit"], state["exp_avg_sq_scale"] = quantise(second, self._unsigned.to(second.device))
