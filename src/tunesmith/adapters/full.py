"""Full fine-tuning behind the adapter seam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter

from ..core.errors import ConflictError
from .base import Adapter


class Full(Adapter):
    """Every weight is trained; the result is a model folder in the Hugging Face layout."""

    folder_name = "model"
    keeps_base = False

    def attach(self, model: Any) -> None:
        """All parameters ask for gradients. Tied weights count once."""
        self._model = model
        model.requires_grad_(True)

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter under its own name."""
        return dict(self._model.named_parameters())

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """There is no base left inside a fully trained model."""
        raise ConflictError("a fully fine-tuned model holds no base", mend="load the base beside it")
        yield

    def save(self, folder: Path, base_name: str) -> None:
        """Config and weights in float32, as they were trained and scored; the tokenizer is the caller's to add."""
        self._model.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Weights back into the model, read by its own class: names in a file differ from those in memory for some."""
        stored = type(self._model).from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        self._model.load_state_dict(stored.state_dict())

    def merge(self) -> None:
        """Nothing is beside the weights."""
