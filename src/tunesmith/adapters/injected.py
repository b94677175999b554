"""Families of PEFT's whose layers stand in the base's: PEFT puts them in, the model stays the caller's own object.

The trained values are float32 whatever the base is. PEFT is imported by what builds these, never before: it takes
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.nn import Parameter

from . import folders
from .base import Adapter
from .folders import PEFT_PREFIX

_NAME = "default"
"""What PEFT calls an only adapter."""


class Injected(Adapter):
    """A tuner of PEFT's behind the adapter seam."""

    folder_name = "adapter"

    def __init__(self, tuner: type[Any], config: Callable[[Any], PeftConfig], shared: tuple[str, ...] = ()):
        """`config` makes the settings that fit a model, or raises ContentError; `shared` names frozen tensors of the
        tuner's own that are saved beside the trained ones."""
        self._tuner_class, self._config_of, self._shared = tuner, config, shared
        self._layers: dict[str, Any] = {}

    def attach(self, model: Any) -> None:
        """Put PEFT's layers into the model and freeze all else."""
        self._model = model
        model.requires_grad_(False)
        self._config = self._config_of(model)
        self._tuner = self._tuner_class(model, {_NAME: self._config}, _NAME)
        self._layers = {name: m for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
        for parameter in self.parameters().values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        for tensors in (getattr(self._tuner, name) for name in self._shared):
            tensors[_NAME] = tensors[_NAME].float()

    def parameters(self) -> dict[str, Parameter]:
        """What is trained, under the names in PEFT's files."""
        return {
            f"{PEFT_PREFIX}{name}.{part}": getattr(layer, part)[_NAME]
            for name, layer in self._layers.items()
            for part in layer.adapter_layer_names
        }

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base alone."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def save(self, folder: Path, base_name: str) -> None:
        """PEFT's two files."""
        settings = self._config.to_dict() | {"inference_mode": True, "base_model_name_or_path": base_name}
        folders.write(folder, self._tensors(), settings)

    def load(self, folder: Path) -> None:
        """Tensors back into the attached layers; ContentError when they do not fit."""
        folders.put(folders.read(folder), self._tensors(), folder)

    def merge(self) -> None:
        """PEFT folds its layers into the base's and takes them out."""
        with torch.no_grad():
            self._tuner.merge_and_unload()
        self._layers.clear()

    def _tensors(self) -> dict[str, Tensor]:
        shared = {f"base_model.{name}": getattr(self._tuner, name)[_NAME] for name in self._shared}
        return self.parameters() | shared

    def _enable(self, wanted: bool) -> None:
        for layer in self._layers.values():
            layer.enable_adapters(wanted)
