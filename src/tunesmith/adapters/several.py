"""Several trained LoRAs on one loaded base: one at a time, none, or a weighted sum of them.

A sum is exact: W x + sum over adapters of weight x scale x B A x, which is what one adapter with all their ranks side
by side would give (PEFT calls it `cat`), and not the product of summed As and Bs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..core.errors import ConflictError, ContentError, nearest
from ..models.quantize import QuantizedLinear
from . import folders
from .folders import PEFT_PREFIX
from .linear import linear_layers, width
from .lowrank import plus

_UNKNOWN = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "use_bdlora")
"""Settings of PEFT's that change what an adapter computes."""


class SeveralLinear(nn.Module):
    """A frozen linear layer with several low-rank additions. Input [..., in], output [..., out]."""

    def __init__(self, base_layer: Any):
        super().__init__()
        self.base_layer = base_layer
        self.additions: dict[str, tuple[Tensor, Tensor]] = {}
        """By the adapter's name: A [r, in], and B [out, r] with the adapter's scale in it; float32."""
        self.weights: Mapping[str, float] = {}
        self._kept: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The frozen weight as the base keeps it."""
        weight: Tensor = self.base_layer.weight
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """The base, and every addition that is switched on, as heavy as it is wanted."""
        out: Tensor = self.base_layer(x)
        if self._kept is not None:
            return out
        for name, weight in self.weights.items():
            if name in self.additions:
                down, up = self.additions[name]
                out = plus(out, x, down, up, weight)
        return out

    def merge(self) -> None:
        """Fold what is switched on into the base's weight, which is put aside."""
        on = [(weight, *self.additions[name]) for name, weight in self.weights.items() if name in self.additions]
        if not on:
            return
        own: Tensor = self.base_layer.weight
        self._kept = own.detach().clone()
        addition = torch.stack([weight * (up @ down) for weight, down, up in on]).sum(0)
        turned = addition.T if isinstance(self.base_layer, Conv1D) else addition
        own.copy_(own.float() + turned)

    def unmerge(self) -> None:
        """The base's weight as it was, to the last bit."""
        if self._kept is not None:
            self.base_layer.weight.copy_(self._kept)
            self._kept = None


class Several:
    """LoRA adapters by name on one model, which stays the caller's own object. None is on at first."""

    def __init__(self, model: Any):
        self._model = model
        self._layers: dict[str, SeveralLinear] = {}
        self._weights: dict[str, float] = {}
        self._merged = False
        self.names: list[str] = []
        """The adapters that are loaded."""
        model.requires_grad_(False)

    def load(self, name: str, folder: Path) -> None:
        """Add the adapter in a folder of PEFT's layout. ConflictError for a name that is taken or a merged model;
        ContentError for another kind of adapter, or one of another base, and then nothing is changed."""
        self._require_apart("load another adapter")
        if name in self.names:
            raise ConflictError(f"an adapter '{name}' is loaded already", mend="choose another name")
        scale = _scale(folders.read_config(folder), folder)
        pairs = self._fitting(_pairs(folders.read(folder), folder), folder)
        for layer, (down, up) in pairs.items():
            device = next(self._model.parameters()).device
            self._at(layer).additions[name] = (down.float().to(device), scale * up.float().to(device))
        self.names.append(name)

    def drop(self, name: str) -> None:
        """Forget a loaded adapter. ConflictError for a merged model, ContentError for an unknown name."""
        self._require_apart("drop an adapter")
        if name not in self.names:
            raise ContentError(f"no adapter '{name}' is loaded", mend=nearest(name, self.names))
        self.names.remove(name)
        self.use({other: weight for other, weight in self._weights.items() if other != name})
        for layer in self._layers.values():
            layer.additions.pop(name, None)

    def stored_bytes(self, name: str) -> int:
        """What a loaded adapter takes."""
        pairs = [layer.additions[name] for layer in self._layers.values() if name in layer.additions]
        return sum(tensor.numel() * tensor.element_size() for pair in pairs for tensor in pair)

    def use(self, wanted: str | Mapping[str, float] | None) -> None:
        """Switch on one adapter, a weighted sum ({a: 0.7, b: 0.3}), or none. ContentError for an unknown name."""
        self._require_apart("switch adapters")
        weights = {wanted: 1.0} if isinstance(wanted, str) else dict(wanted or {})
        for name in weights:
            if name not in self.names:
                raise ContentError(f"no adapter '{name}' is loaded", mend=nearest(name, self.names))
        self._weights = weights
        for layer in self._layers.values():
            layer.weights = self._weights

    def merge(self) -> None:
        """Fold what is switched on into the base's weights; they are put aside, in memory once more."""
        self._require_apart("merge")
        with torch.no_grad():
            for layer in self._layers.values():
                layer.merge()
        self._merged = True

    def unmerge(self) -> None:
        """Take it out again: the base's weights are put back, bit for bit."""
        if not self._merged:
            raise ConflictError("nothing is merged")
        with torch.no_grad():
            for layer in self._layers.values():
                layer.unmerge()
        self._merged = False

    def _require_apart(self, what: str) -> None:
        if self._merged:
            raise ConflictError(f"cannot {what} while adapters are merged into the base", mend="unmerge first")

    def _fitting(self, pairs: dict[str, tuple[Tensor, Tensor]], folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
        """The pairs, every one of them as wide as its layer."""
        layers = linear_layers(self._model)
        for name, (down, up) in pairs.items():
            layer = self._layers[name].base_layer if name in self._layers else layers.get(name)
            if isinstance(layer, QuantizedLinear):
                raise ContentError("several adapters need a base that is not quantised", where=str(folder))
            if layer is None or width(layer) != (up.shape[0], down.shape[1]):
                raise ContentError(
                    "the adapter does not fit this base", where=f"{folder}: {name}",
                    why="the base has no such layer" if layer is None else "the layer has another width",
                    mend="name the base that the adapter was trained on",
                )  # fmt: skip
        return pairs

    def _at(self, name: str) -> SeveralLinear:
        """The layer of this name, made ready for additions."""
        if name not in self._layers:
            parent, _, last = name.rpartition(".")
            owner = self._model.get_submodule(parent)
            self._layers[name] = SeveralLinear(getattr(owner, last))
            self._layers[name].weights = self._weights
            setattr(owner, last, self._layers[name])
        return self._layers[name]


def _scale(config: Mapping[str, Any], folder: Path) -> float:
    """alpha / r, or alpha / sqrt(r). ContentError for what is no plain LoRA."""
    if config.get("peft_type") != "LORA":
        raise ContentError(
            f"{folder} holds no LoRA", why=f"its peft_type is {config.get('peft_type')}",
            mend="load it by itself: only LoRAs can share a base",
        )  # fmt: skip
    for key in _UNKNOWN:
        if config.get(key):
            raise ContentError(
                f"{folder} holds a LoRA that cannot share a base", why=f"its adapter_config.json sets {key}",
                mend="load it by itself",
            )  # fmt: skip
    r = int(config["r"])
    return float(config["lora_alpha"]) / (r**0.5 if config.get("use_rslora") else r)


def _pairs(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, B) by the layer's name in the model. ContentError for anything else in the file."""
    pairs = {}
    for key, down in tensors.items():
        name = key.removeprefix(PEFT_PREFIX).removesuffix(".lora_A.weight")
        if (
            key == f"{PEFT_PREFIX}{name}.lora_A.weight"
            and (up := tensors.get(key.replace("lora_A", "lora_B"))) is not None
        ):
            pairs[name] = (down, up)
    if 2 * len(pairs) != len(tensors):
        raise ContentError(f"{folder} holds more than A and B of linear layers", mend="load it by itself")
    return pairs
