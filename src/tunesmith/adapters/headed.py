"""Any adapter on a model whose head is new: the head is trained whole beside what the adapter trains.

In PEFT's files the head is one of the `modules_to_save`, so that PEFT puts it into transformers' class for sequence
classification. The inner adapter never sees it: it is taken out while that one looks for layers to adapt.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import Parameter

from ..core.errors import ContentError
from . import folders
from .base import Adapter
from .folders import PEFT_PREFIX


class Headed(Adapter):
    """An adapter with the head beside it, behind the same seam."""

    def __init__(self, inner: Adapter, head: str):
        """`head` is the name of the model's head."""
        self._inner, self._name = inner, head
        self.folder_name, self.keeps_base = inner.folder_name, inner.keeps_base
        self._start: dict[str, Tensor] = {}

    def attach(self, model: Any) -> None:
        """The inner adapter on the body, and the head made trainable; what it starts from is kept as the base's."""
        head = model.get_submodule(self._name)
        setattr(model, self._name, nn.Identity())
        try:
            self._inner.attach(model)
        finally:
            setattr(model, self._name, head)
        head.requires_grad_(True)
        self._head: dict[str, Parameter] = dict(head.named_parameters())
        self._start = {name: parameter.detach().clone() for name, parameter in self._head.items()}

    def parameters(self) -> dict[str, Parameter]:
        """What the inner adapter trains, and the head."""
        return self._inner.parameters() | {self._key(name): parameter for name, parameter in self._head.items()}

    def rates(self) -> Mapping[str, float]:
        """Those of the inner adapter; the head's is 1."""
        return self._inner.rates()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base with the head that training started from; the trained one is put aside and not copied."""
        with self._inner.disabled():
            aside = {name: parameter.data for name, parameter in self._head.items()}
            for name, parameter in self._head.items():
                parameter.data = self._start[name]
            try:
                yield
            finally:
                for name, parameter in self._head.items():
                    parameter.data = aside[name]

    def save(self, folder: Path, base_name: str) -> None:
        """What the inner adapter writes; in PEFT's layout with the head among `modules_to_save`."""
        self._inner.save(folder, base_name)
        if self.folder_name == "adapter":
            head = {self._key(name): parameter for name, parameter in self._head.items()}
            config = folders.read_config(folder) | {"task_type": "SEQ_CLS", "modules_to_save": [self._name]}
            folders.write(folder, folders.read(folder) | head, config)

    def load(self, folder: Path) -> None:
        """Both parts back; ContentError when they do not fit."""
        keys = {name: self._key(name) for name in self._head}
        if self.folder_name == "adapter":
            stored = folders.read(folder)
            head = {name: stored.pop(key) for name, key in keys.items() if key in stored}
            with tempfile.TemporaryDirectory() as bare:
                folders.write(Path(bare), stored, folders.read_config(folder))
                self._inner.load(Path(bare))
        else:
            self._inner.load(folder)
            head = _among(folder, keys)
        if {n: t.shape for n, t in head.items()} != {n: p.shape for n, p in self._head.items()}:
            raise ContentError(
                "the head does not fit this run", where=str(folder), why="their labels differ",
                mend="restore the recipe that it was trained by",
            )  # fmt: skip
        with torch.no_grad():
            for name, parameter in self._head.items():
                parameter.copy_(head[name])

    def merge(self) -> None:
        """The inner addition into the body; the head is in its place already."""
        self._inner.merge()

    def _key(self, name: str) -> str:
        prefix = PEFT_PREFIX if self.folder_name == "adapter" else ""
        return f"{prefix}{self._name}.{name}"


def _among(folder: Path, keys: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a model folder that have these keys, by the names that the keys are of."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            held = set(stored.keys())
            found |= {name: stored.get_tensor(key) for name, key in keys.items() if key in held}
    return found
