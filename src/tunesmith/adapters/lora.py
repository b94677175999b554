"""LoRA, our own, saved in PEFT's layout (Hu et al. 2021, arXiv 2106.09685, section 4.1).

The base layer's weights stay as they are and take no gradient. A and B are kept in float32 and cast to the
activations' type where they are used, so that small updates are not lost in bf16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from ..core.errors import ContentError
from ..models.kernels.products import linear
from ..models.quantize import QuantizedLinear, quantize, restore
from ..models.targets import is_encoder_decoder
from . import folders
from .base import Adapter
from .config import LoraSpec
from .folders import PEFT_PREFIX
from .linear import leaf, linear_layers, require_rank, targeted, width
from .lowrank import adapted, plus
from .names import BLOCK, last_blocks


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained low-rank addition. Input [..., in], output [..., out]."""

    def __init__(self, base_layer: nn.Linear | Conv1D | QuantizedLinear, spec: LoraSpec):
        super().__init__()
        self.base_layer: Any = base_layer
        self.scaling = spec.scaling()
        self.dropout = spec.dropout
        self.enabled = True
        device = next(chain(base_layer.parameters(), base_layer.buffers())).device
        outputs, inputs = width(base_layer)
        self.lora_A = Parameter(torch.empty(spec.r, inputs, device=device))
        self.lora_B = Parameter(torch.zeros(outputs, spec.r, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @property
    def transposed(self) -> bool:
        """Whether the base keeps its weight as [in, out], as GPT-2's layers do."""
        return isinstance(self.base_layer, Conv1D) or getattr(self.base_layer, "turned", False)

    @property
    def weight(self) -> Tensor:
        """The frozen weight as the base keeps it: some models (T5) ask a layer for its type before they call it."""
        if isinstance(self.base_layer, QuantizedLinear):
            return self.base_layer.dequantized(self.base_layer.dtype)
        weight: Tensor = self.base_layer.weight
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """W x, plus scaling B A x while enabled."""
        if self._plain(x):
            base = self.base_layer
            return adapted(x, base.weight, base.bias, self.lora_A, self.lora_B, self.scaling)
        out = linear(self.base_layer, x)
        if not self.enabled:
            return out
        seen = F.dropout(x, self.dropout, self.training) if self.dropout else x
        return plus(out, seen, self.lora_A, self.lora_B, self.scaling)

    def _plain(self, x: Tensor) -> bool:
        """Whether something learns here, from what the base's own matrix and the addition read alike."""
        learning = self.enabled and torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type)
        bare = type(self.base_layer) is nn.Linear and not (self.dropout and self.training)
        return learning and bare and x.dtype == self.base_layer.weight.dtype

    def parts(self) -> dict[str, Parameter]:
        """What is trained, by its name behind the layer's in PEFT's files."""
        return {"lora_A.weight": self.lora_A, "lora_B.weight": self.lora_B}

    def base_weight(self) -> Tensor:
        """The frozen weight as [out, in], float32."""
        if isinstance(self.base_layer, QuantizedLinear):
            return self.base_layer.dequantized(torch.float32)
        weight: Tensor = self.base_layer.weight
        return (weight.T if self.transposed else weight).float()

    def merged_weight(self) -> Tensor:
        """The one matrix [out, in] that does what base and addition do together, float32."""
        return self.base_weight() + self.scaling * (self.lora_B @ self.lora_A)

    def merged(self) -> nn.Module:
        """A plain layer with that matrix: the base's own, changed; a new one where the base's is quantised."""
        weight = self.merged_weight()
        if isinstance(self.base_layer, QuantizedLinear):
            return self.base_layer.plain(weight)
        self.base_layer.weight.copy_(weight.T if self.transposed else weight)
        layer: nn.Module = self.base_layer
        return layer


class DoraLinear(LoraLinear):
    """LoRA of the weight's direction, with each output's length trained apart (Liu et al. 2024, equation 5).

    W' = m (W + s B A) / ||W + s B A||, the norm over the inputs of each output. As in the paper's section 4.3 the norm
    takes no gradient. With B = 0 and m = ||W|| the layer is the base.
    """

    def __init__(self, base_layer: nn.Linear | Conv1D | QuantizedLinear, spec: LoraSpec):
        super().__init__(base_layer, spec)
        self.lora_magnitude_vector = Parameter(self._norm(self.base_weight()))

    def forward(self, x: Tensor) -> Tensor:
        """W' x. Dropout, where there is one, acts on what the base does not give by itself."""
        out: Tensor = self.base_layer(x)
        if not self.enabled:
            return out
        weight = self.base_weight()
        with torch.no_grad():
            norm = self._norm(weight + self.scaling * (self.lora_B @ self.lora_A))
        length = (self.lora_magnitude_vector / norm).to(x.dtype)
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
        low = F.linear(dropped, self.lora_A.to(x.dtype)) * self.scaling
        low = F.linear(low, self.lora_B.to(x.dtype))
        return out + (length - 1) * F.linear(dropped, weight.to(x.dtype)) + length * low

    def parts(self) -> dict[str, Parameter]:
        """A, B and the lengths."""
        return super().parts() | {"lora_magnitude_vector": self.lora_magnitude_vector}

    def merged_weight(self) -> Tensor:
        """W' itself."""
        weight = super().merged_weight()
        return weight * (self.lora_magnitude_vector / self._norm(weight)).unsqueeze(1)

    @staticmethod
    def _norm(weight: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(weight, dim=1)
        return norm


class Lora(Adapter):
    """LoRA behind the adapter seam."""

    folder_name = "adapter"

    def __init__(self, spec: LoraSpec, held: type[QuantizedLinear] | None = None):
        """`held` is how the base's frozen layers are kept; None leaves them as they are."""
        self.spec = spec
        self._held = held
        self._layers: dict[str, LoraLinear] = {}

    def attach(self, model: Any) -> None:
        """Put an addition beside every targeted linear layer and freeze all else; quantise the base where asked."""
        self._model = model
        model.requires_grad_(False)
        names = self._names(model)
        require_rank(model, names, self.spec.r)
        if self._held:
            quantize(model, self._held)
        for name in names:
            parent, _, last = name.rpartition(".")
            owner = model.get_submodule(parent)
            layer = (DoraLinear if self.spec.dora else LoraLinear)(getattr(owner, last), self.spec)
            setattr(owner, last, layer)
            self._layers[name] = layer

    def _names(self, model: Any) -> list[str]:
        """The layers to be adapted, in the model's order. ContentError where that is none."""
        names = targeted(model, self.spec.targets)
        if not self.spec.last:
            return names
        if is_encoder_decoder(model):
            raise ContentError(
                "adapter.last needs a decoder by itself: this base is an encoder-decoder",
                why="PEFT's files count the blocks of both parts alike",
                mend="leave adapter.last out, or use adapter: {type: layers, last: N}",
            )
        above = set(last_blocks(list(linear_layers(model)), self.spec.last))
        names = [name for name in names if name in above]
        if not names:
            raise ContentError("the last blocks have no layer of adapter.targets", mend="raise adapter.last")
        return names

    def parameters(self) -> dict[str, Parameter]:
        """What is trained of every layer, under PEFT's names."""
        return {
            f"{PEFT_PREFIX}{name}.{part}": parameter
            for name, layer in self._layers.items()
            for part, parameter in layer.parts().items()
        }

    def rates(self) -> Mapping[str, float]:
        """LoRA+ (Hayou et al. 2024, section 4): every B at a multiple of the rate of A."""
        ratio = self.spec.lora_plus
        return {name: ratio for name in self.parameters() if name.endswith(".lora_B.weight")} if ratio else {}

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base alone."""
        for layer in self._layers.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.enabled = True

    def save(self, folder: Path, base_name: str) -> None:
        """`adapter_config.json` and `adapter_model.safetensors`, in PEFT's layout."""
        folders.write(folder, self.parameters(), self._peft_config(base_name))

    def load(self, folder: Path) -> None:
        """Tensors back into the attached layers; ContentError when they do not fit."""
        folders.put(folders.read(folder), self.parameters(), folder)

    def merge(self) -> None:
        """One matrix for each layer, computed in float32, and plain layers back in their places.

        A quantised base comes back as plain layers too, with the values that its quantised weights stand for: those
        are what the addition was trained beside.
        """
        with torch.no_grad():
            for name, layer in self._layers.items():
                parent, _, last = name.rpartition(".")
                setattr(self._model.get_submodule(parent), last, layer.merged())
            restore(self._model)
        self._layers.clear()

    def _blocks(self) -> dict[str, Any]:
        """Which blocks are adapted, in PEFT's words."""
        found = [match for match in map(BLOCK.match, self._layers) if match]
        return {
            "layers_to_transform": sorted({int(match["number"]) for match in found}),
            "layers_pattern": found[0]["stem"].rpartition(".")[2],
        }

    def _peft_config(self, base_name: str) -> dict[str, Any]:
        return {
            "peft_type": "LORA",
            "task_type": folders.task_type(self._model),
            "base_model_name_or_path": base_name,
            "r": self.spec.r,
            "lora_alpha": self.spec.alpha,
            "lora_dropout": self.spec.dropout,
            "use_rslora": self.spec.rslora,
            "use_dora": self.spec.dora,
            "target_modules": {leaf(name) for name in self._layers},
            **(self._blocks() if self.spec.last else {}),
            "bias": "none",
            "fan_in_fan_out": all(layer.transposed for layer in self._layers.values()),
            "init_lora_weights": True,
            "inference_mode": True,
            "modules_to_save": None,
        }
