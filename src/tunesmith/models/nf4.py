"""Linear layers in 4 bits (Dettmers et al. 2023, arXiv 2305.14314, section 3). Needs the extra `quantize`.

Blocks of 64 weights share a scale, each weight is one of 16 quantiles of a normal distribution, and the scales are
quantised once more, to 8 bits in blocks of 256: 4.13 bits a weight. bitsandbytes packs and unpacks. Its own layer is
not used: on a CPU with bf16 instructions it rewrites its weights, with loss, when it is first called in evaluation,
and gives no gradients from then on.
"""

from __future__ import annotations

import torch
from bitsandbytes import functional
from torch import Tensor

from .quantize import QuantizedLinear

_BLOCK, _NESTED_BLOCK = 64, 256


class Nf4Linear(QuantizedLinear):
    """Two weights in a byte."""

    def pack(self, weight: Tensor) -> None:
        """4 bits a weight, 8 a block of 64, 32 a block of 256 blocks."""
        packed, state = functional.quantize_4bit(weight, blocksize=_BLOCK, compress_statistics=True, quant_type="nf4")
        self.register_buffer("packed", packed)
        self.register_buffer("scales", state.absmax)
        self.register_buffer("offset", state.offset.reshape(1))
        self.register_buffer("scales_of_scales", state.state2.absmax)
        self.register_buffer("entries", state.state2.code)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The scales first, then the weights."""
        part = self.get_buffer
        nested = functional.QuantState(
            absmax=part("scales_of_scales"), blocksize=_NESTED_BLOCK, code=part("entries"), dtype=torch.float32
        )
        scales = functional.dequantize_blockwise(part("scales"), nested) + part("offset")
        shape = torch.Size((self.out_features, self.in_features))
        state = functional.QuantState(absmax=scales, shape=shape, blocksize=_BLOCK, quant_type="nf4", dtype=dtype)
        weight: Tensor = functional.dequantize_4bit(part("packed"), state)
        return weight
