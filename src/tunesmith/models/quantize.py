"""A base's linear layers held in few bits, on a CPU as on a GPU.

What is quantised are the weights' bf16 values, so that a run in either number type stands on the same base. A forward
or backward pass unpacks one layer's weight at a time and keeps none. `nf4` beside this module holds 4 bits a weight;
here is int8: a scale for each row, its largest value / 127 (Dettmers et al. 2022, arXiv 2208.07339, section 2.1, for
weights alone). It is our own because bitsandbytes' layer multiplies in 8 bits as well, and warns of every other type.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from ..core.errors import ContentError


class QuantizedLinear(nn.Module):
    """A frozen linear layer whose weight [out, in] is kept small. Input [..., in], output [..., out]."""

    def __init__(self, layer: nn.Linear | Conv1D):
        super().__init__()
        self.turned = isinstance(layer, Conv1D)
        """Whether the layer it stands for keeps its weight as [in, out], as GPT-2's do."""
        weight = layer.weight.T if self.turned else layer.weight
        self.out_features, self.in_features = int(weight.shape[0]), int(weight.shape[1])
        self.dtype = layer.weight.dtype
        self.bias = layer.bias
        self.pack(weight.detach().bfloat16().float().contiguous())

    def pack(self, weight: Tensor) -> None:
        """Keep the float32 weight [out, in] as buffers."""
        raise NotImplementedError

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The weight [out, in] that the layer multiplies by."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """W x + bias."""
        out: Tensor = _Multiply.apply(x, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def stored_bytes(self) -> int:
        """Bytes of the weight and all that unpacking it takes."""
        return sum(b.numel() * b.element_size() for b in self.buffers())

    def plain(self, weight: Tensor) -> nn.Module:
        """The kind of layer that was quantised, with this float32 weight [out, in]."""
        made: Any
        if self.turned:
            made = Conv1D(self.out_features, self.in_features)
        else:
            made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        made = made.to(device=weight.device, dtype=self.dtype)
        with torch.no_grad():
            made.weight.copy_(weight.T if self.turned else weight)
            if self.bias is not None:
                made.bias.copy_(self.bias)
        frozen: nn.Module = made.requires_grad_(False)
        return frozen


class Int8Linear(QuantizedLinear):
    """A weight in a byte."""

    def pack(self, weight: Tensor) -> None:
        """Whole numbers from -127 to 127, and a scale a row."""
        scales = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        self.register_buffer("packed", (weight / scales).round().to(torch.int8))
        self.register_buffer("scales", scales)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Number x scale."""
        packed, scales = self.get_buffer("packed"), self.get_buffer("scales")
        return (packed.float() * scales).to(dtype)


class _Multiply(torch.autograd.Function):
    """W x with a weight that is unpacked anew in the backward pass instead of being kept for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.dequantized(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.dequantized(gradient.dtype), None


def quantize(model: Any, kind: type[QuantizedLinear]) -> None:
    """Replace every linear layer but the vocabulary head, in place, one at a time; ContentError where there is none.

    Layers that the model's class keeps in float32 (T5's `wo`) stay.
    """
    head = model.get_output_embeddings()
    exempt = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head and name.rpartition(".")[2] not in exempt
    ]
    if not names:
        raise ContentError("adapter.quantize finds no linear layer in this base", mend="leave adapter.quantize out")
    for name in names:
        _replace(model, name, kind(model.get_submodule(name)))


def restore(model: Any) -> None:
    """Plain layers again, with the quantised weights' values, in place."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    for name, module in found:
        _replace(model, name, module.plain(module.dequantized(torch.float32)))


def _replace(model: Any, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)
