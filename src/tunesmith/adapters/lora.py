"""LoRA, our own, saved in PEFT's layout (Hu et al. 2021, arXiv 2106.09685, section 4.1).

The base layer's weights stay as they are and take no gradient. A and B are kept in float32 and cast to the
activations' type where they are used, so that small updates are not lost in bf16.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from ..core.errors import ContentError, nearest
from .config import LoraSpec

_PEFT_PREFIX = "base_model.model."


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained low-rank addition. Input [..., in], output [..., out]."""

    def __init__(self, base_layer: nn.Linear | Conv1D, spec: LoraSpec):
        super().__init__()
        self.base_layer = base_layer
        self.scaling = spec.scaling()
        self.dropout = spec.dropout
        self.enabled = True
        device = base_layer.weight.device
        outputs, inputs = base_layer.weight.T.shape if self.transposed else base_layer.weight.shape
        self.lora_A = Parameter(torch.empty(spec.r, inputs, device=device))
        self.lora_B = Parameter(torch.zeros(outputs, spec.r, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @property
    def transposed(self) -> bool:
        """Whether the base keeps its weight as [in, out], as GPT-2's layers do."""
        return isinstance(self.base_layer, Conv1D)

    @property
    def weight(self) -> Tensor:
        """The frozen weight as the base keeps it: some models (T5) ask a layer for its type before they call it."""
        return self.base_layer.weight

    def forward(self, x: Tensor) -> Tensor:
        """W x, plus scaling B A x while enabled."""
        out: Tensor = self.base_layer(x)
        if not self.enabled:
            return out
        low = F.dropout(x, self.dropout, self.training) if self.dropout else x
        low = F.linear(low, self.lora_A.to(x.dtype)) * self.scaling
        return out + F.linear(low, self.lora_B.to(x.dtype))

    def parts(self) -> dict[str, Parameter]:
        """What is trained, by its name behind the layer's in PEFT's files."""
        return {"lora_A.weight": self.lora_A, "lora_B.weight": self.lora_B}

    def base_weight(self) -> Tensor:
        """The frozen weight as [out, in], float32."""
        weight = self.base_layer.weight
        return (weight.T if self.transposed else weight).float()

    def merged_weight(self) -> Tensor:
        """The one matrix [out, in] that does what base and addition do together, float32."""
        return self.base_weight() + self.scaling * (self.lora_B @ self.lora_A)


class DoraLinear(LoraLinear):
    """LoRA of the weight's direction, with each output's length trained apart (Liu et al. 2024, equation 5).

    W' = m (W + s B A) / ||W + s B A||, the norm over the inputs of each output. As in the paper's section 4.3 the norm
    takes no gradient. With B = 0 and m = ||W|| the layer is the base.
    """

    def __init__(self, base_layer: nn.Linear | Conv1D, spec: LoraSpec):
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


class Lora:
    """LoRA behind the adapter seam."""

    folder_name = "adapter"

    def __init__(self, spec: LoraSpec):
        self.spec = spec
        self._layers: dict[str, LoraLinear] = {}

    def attach(self, model: Any) -> None:
        """Put an addition beside every targeted linear layer and freeze all else."""
        self._model = model
        model.requires_grad_(False)
        for name in self._targets(model):
            parent, _, leaf = name.rpartition(".")
            owner = model.get_submodule(parent)
            layer = (DoraLinear if self.spec.dora else LoraLinear)(getattr(owner, leaf), self.spec)
            setattr(owner, leaf, layer)
            self._layers[name] = layer

    def parameters(self) -> dict[str, Parameter]:
        """What is trained of every layer, under PEFT's names."""
        return {
            f"{_PEFT_PREFIX}{name}.{part}": parameter
            for name, layer in self._layers.items()
            for part, parameter in layer.parts().items()
        }

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
        tensors = {name: p.detach().cpu().contiguous() for name, p in self.parameters().items()}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = self._peft_config(base_name)
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")

    def load(self, folder: Path) -> None:
        """Tensors back into the attached layers; ContentError when they do not fit."""
        stored = load_file(folder / "adapter_model.safetensors")
        mine = self.parameters()
        if {n: t.shape for n, t in stored.items()} != {n: p.shape for n, p in mine.items()}:
            raise ContentError(
                "the adapter does not fit this base", where=str(folder), why="their layers or ranks differ",
                mend="name the base that the adapter was trained on",
            )  # fmt: skip
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(stored[name])

    def merge(self) -> None:
        """One matrix for each layer, computed in float32, and the plain layers back in their places."""
        with torch.no_grad():
            for name, layer in self._layers.items():
                weight = layer.base_layer.weight
                merged = layer.merged_weight()
                weight.copy_(merged.T if layer.transposed else merged)
                parent, _, leaf = name.rpartition(".")
                setattr(self._model.get_submodule(parent), leaf, layer.base_layer)
        self._layers.clear()

    def _targets(self, model: Any) -> list[str]:
        """Names of the linear layers to adapt, in the model's order."""
        head = model.get_output_embeddings()
        linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head}
        if self.spec.targets == "all-linear":
            found = list(linear)
        else:
            leaves = {name.rpartition(".")[2] for name in linear}
            if unknown := [t for t in self.spec.targets if t not in leaves]:
                if any(name.endswith(f".{unknown[0]}") for name, p in model.named_parameters() if p.ndim == 3):
                    raise ContentError(
                        f"adapter.targets: '{unknown[0]}' is no linear layer in this base",
                        why="a mixture's experts are fused into one tensor, which LoRA here does not reach",
                        mend="adapt the attention's layers (all-linear), or use adapter: {type: full}",
                    )
                raise ContentError(
                    f"adapter.targets: the base has no linear layer '{unknown[0]}'",
                    mend=nearest(unknown[0], leaves),
                )
            found = [name for name in linear if name.rpartition(".")[2] in self.spec.targets]
        if not found:
            raise ContentError("LoRA finds no linear layer in this base", mend="use adapter: {type: full}")
        return found

    def _peft_config(self, base_name: str) -> dict[str, Any]:
        return {
            "peft_type": "LORA",
            "task_type": "SEQ_2_SEQ_LM" if self._model.config.is_encoder_decoder else "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": self.spec.r,
            "lora_alpha": self.spec.alpha,
            "lora_dropout": self.spec.dropout,
            "use_rslora": self.spec.rslora,
            "use_dora": self.spec.dora,
            "target_modules": sorted({name.rpartition(".")[2] for name in self._layers}),
            "bias": "none",
            "fan_in_fan_out": all(layer.transposed for layer in self._layers.values()),
            "init_lora_weights": True,
            "inference_mode": True,
            "modules_to_save": None,
        }
