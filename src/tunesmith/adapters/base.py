"""The seam between the training loop and the ways to train a model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch.nn import Parameter


class Adapter(Protocol):
    """One way to train a model. `attach` first; the rest speaks of the model it was attached to."""

    folder_name: str
    """Where the result lies in a run directory: `adapter` or `model`."""
    keeps_base: bool = True
    """Whether `disabled` gives the base back."""

    def attach(self, model: Any) -> None:
        """Change the model in place so that it can be trained; raises ContentError when nothing fits."""

    def parameters(self) -> dict[str, Parameter]:
        """What is trained, by the name that it has in the saved file."""

    def rates(self) -> Mapping[str, float]:
        """Multiples of the learning rate, by the parameter's name; 1 where a name is not there."""
        return {}

    def disabled(self) -> AbstractContextManager[None]:
        """Inside the block the model is the base again; ConflictError where that cannot be."""

    def save(self, folder: Path, base_name: str) -> None:
        """Write the result into an existing, empty folder."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote into the attached model."""

    def merge(self) -> None:
        """Fold the addition into the base's weights; the model is then a plain one. ContentError where that cannot
        be, and then nothing is changed."""
