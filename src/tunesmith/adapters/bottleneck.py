"""Bottleneck adapters, our own: h + U f(D h + d) + u behind a sublayer of each block, inside its residual.

Houlsby et al. 2019 (arXiv 1902.00751, section 2) put one behind the attention and one behind the feed-forward part;
Pfeiffer et al. 2020 (arXiv 2005.00247, section 3.1) keep the second. Where a base normalises a sublayer's output
before it is added (Gemma 2), the adapter stands in front of that. U and u start at zero, so that a fresh adapter
changes nothing; the papers start near zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn import functional as F

from ..core.errors import ContentError
from . import folders
from .base import Adapter
from .config_inside import BottleneckSpec

_ATTENTIONS = ("self_attn", "attn", "attention", "self_attention", "temporal_block", "linear_attn")
_FEED_FORWARDS = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe")
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


class BottleneckLayer(nn.Module):
    """h -> h + U f(D h + d) + u. Input and output [..., hidden]; float32 inside, in the input's type outside."""

    def __init__(self, hidden: int, spec: BottleneckSpec, device: torch.device):
        super().__init__()
        self.down = nn.Linear(hidden, spec.width, device=device, dtype=torch.float32)
        self.up = nn.Linear(spec.width, hidden, device=device, dtype=torch.float32)
        self._function = _FUNCTIONS[spec.activation]
        nn.init.normal_(self.down.weight, std=0.01)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor) -> Tensor:
        """As the class says."""
        inner = self._function(F.linear(h, self.down.weight.to(h.dtype), self.down.bias.to(h.dtype)))
        return h + F.linear(inner, self.up.weight.to(h.dtype), self.up.bias.to(h.dtype))


class Bottleneck(Adapter):
    """Bottleneck adapters behind the adapter seam. They live in the base's blocks as `bottleneck_<place>`."""

    folder_name = "adapter"

    def __init__(self, spec: BottleneckSpec):
        self.spec = spec
        self._layers: dict[str, BottleneckLayer] = {}
        self._enabled = True

    def attach(self, model: Any) -> None:
        """Freeze the base and stand behind its sublayers."""
        blocks = _blocks(model)
        hidden = model.config.get_text_config().hidden_size
        if self.spec.width > hidden:
            raise ContentError(
                f"adapter.width is {self.spec.width}, above the base's hidden size",
                why=f"a bottleneck is narrower than the {hidden} values that pass it",
                mend=f"set adapter.width to {hidden} or less",
            )
        model.requires_grad_(False)
        places = ("attention", "mlp") if self.spec.style == "houlsby" else ("mlp",)
        for number, block in enumerate(blocks):
            for place in places:
                sublayer = _child(block, _ATTENTIONS if place == "attention" else _FEED_FORWARDS)
                layer = BottleneckLayer(hidden, self.spec, next(block.parameters()).device)
                block.add_module(f"bottleneck_{place}", layer)
                sublayer.register_forward_hook(self._behind(layer))
                self._layers[f"layers.{number}.{place}"] = layer

    def parameters(self) -> dict[str, Parameter]:
        """D, d, U and u of every place."""
        return {f"{place}.{name}": p for place, layer in self._layers.items() for name, p in layer.named_parameters()}

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base alone."""
        self._enabled = False
        try:
            yield
        finally:
            self._enabled = True

    def save(self, folder: Path, base_name: str) -> None:
        """Two files called as PEFT's are, with a layout of our own: PEFT has no such adapters."""
        settings = {"tunesmith_type": "BOTTLENECK", "base_model_name_or_path": base_name}
        folders.write(folder, self.parameters(), settings | self.spec.model_dump(mode="json", exclude={"type"}))

    def load(self, folder: Path) -> None:
        """Tensors back; ContentError when they do not fit."""
        folders.put(folders.read(folder), self.parameters(), folder)

    def merge(self) -> None:
        """Always a ContentError."""
        raise ContentError("bottleneck adapters cannot be merged into their base", why=self.spec.cannot_merge)

    def _behind(self, layer: BottleneckLayer) -> Callable[..., Any]:
        def apply(_: nn.Module, __: Any, output: Any) -> Any:
            if not self._enabled:
                return output
            if isinstance(output, tuple):  # attention gives its weights too
                return (layer(output[0]), *output[1:])
            return layer(output)

        return apply


def _blocks(model: Any) -> list[Any]:
    """The decoder's blocks. ContentError where they cannot be told."""
    if model.config.is_encoder_decoder:
        raise ContentError(
            "bottleneck adapters need a decoder by itself: this base is an encoder-decoder",
            mend="use adapter: {type: lora} or {type: ia3}",
        )
    count = model.config.get_text_config().num_hidden_layers
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            blocks = list(module)
            for block in blocks:
                _child(block, _ATTENTIONS)
                _child(block, _FEED_FORWARDS)
            return blocks
    raise ContentError("bottleneck adapters do not find this base's blocks", mend="use adapter: {type: lora}")


def _child(block: Any, names: tuple[str, ...]) -> nn.Module:
    for name, child in block.named_children():
        if name in names:
            return child  # type: ignore[no-any-return]
    raise ContentError(
        "bottleneck adapters do not know this base's blocks",
        why=f"they hold {', '.join(name for name, _ in block.named_children())} and none of {', '.join(names)}",
        mend="use adapter: {type: lora}",
    )
