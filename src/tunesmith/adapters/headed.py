"""Any adapter on a model whose head is new: the head is trained whole beside what the adapter trains.

In PEFT's files the head is one of the `modules_to_save`, so that PEFT puts it into transformers' class for sequence
classification. The inner adapter never sees it: it is taken out while that one looks for layers to adapt.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import Parameter

from ..core.errors import ContentError
from .base import Adapter

_PREFIX = "base_model.model."
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Headed:
    """An adapter with the head beside it, behind the same seam."""

    def __init__(self, inner: Adapter, head: str):
        """`head` is the name of the model's head."""
        self._inner, self._name = inner, head
        self.folder_name = inner.folder_name
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
        self._head = dict(head.named_parameters())
        self._start = {name: parameter.detach().clone() for name, parameter in self._head.items()}

    def parameters(self) -> dict[str, Parameter]:
        """What the inner adapter trains, and the head."""
        return self._inner.parameters() | {self._key(name): parameter for name, parameter in self._head.items()}

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base with the head that training started from; the trained one is put aside and not copied."""
        with self._inner.disabled():
            aside = {name: parameter.data for name, parameter in self._head.items()}
            for name, parameter in self._head.items():
                parameter.data = self._start[name].to(parameter.device)
            try:
                yield
            finally:
                for name, parameter in self._head.items():
                    parameter.data = aside[name]

    def save(self, folder: Path, base_name: str) -> None:
        """What the inner adapter writes; in PEFT's layout with the head among `modules_to_save`."""
        self._inner.save(folder, base_name)
        if self.folder_name != "adapter":
            return
        head = {self._key(name): parameter.detach().cpu().contiguous() for name, parameter in self._head.items()}
        save_file(load_file(folder / _WEIGHTS) | head, folder / _WEIGHTS, metadata={"format": "pt"})
        config = json.loads((folder / _CONFIG).read_text("utf-8"))
        config |= {"task_type": "SEQ_CLS", "modules_to_save": [self._name]}
        (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")

    def load(self, folder: Path) -> None:
        """Both parts back; ContentError when they do not fit."""
        if self.folder_name != "adapter":
            self._inner.load(folder)
            return
        stored = load_file(folder / _WEIGHTS)
        head = {name: stored.pop(self._key(name), None) for name in self._head}
        with tempfile.TemporaryDirectory() as bare:
            save_file(stored, Path(bare) / _WEIGHTS, metadata={"format": "pt"})
            (Path(bare) / _CONFIG).write_bytes((folder / _CONFIG).read_bytes())
            self._inner.load(Path(bare))
        with torch.no_grad():
            for name, parameter in self._head.items():
                found = head[name]
                if found is None or found.shape != parameter.shape:
                    raise ContentError(
                        "the adapter's head does not fit this run", where=str(folder), why="their labels differ",
                        mend="restore the recipe that the adapter was trained by",
                    )  # fmt: skip
                parameter.copy_(found)

    def merge(self) -> None:
        """The inner addition into the body; the head is in its place already."""
        self._inner.merge()

    def _key(self, name: str) -> str:
        prefix = _PREFIX if self.folder_name == "adapter" else ""
        return f"{prefix}{self._name}.{name}"
