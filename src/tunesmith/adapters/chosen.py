"""Some of the base's own weights are trained and the others stay: its last blocks, named parts, the biases.

What is trained is kept a second time as the base has it, so that the base can be had back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ..core.errors import ContentError
from .base import Adapter
from .config_weights import LayersSpec
from .names import chosen_names, last_blocks

Choice = Callable[[Sequence[str]], list[str]]
"""From the names of all parameters to those that are trained; ContentError where that is none."""


def layers(spec: LayersSpec) -> Choice:
    """The last blocks, or what the recipe names."""
    if spec.last:
        count = spec.last
        return lambda names: last_blocks(names, count)
    return lambda names: chosen_names(names, spec.names)


def biases(names: Sequence[str]) -> list[str]:
    """Every bias, those of normalisations included (Ben Zaken et al. 2021, section 3)."""
    found = [name for name in names if name.rpartition(".")[2] == "bias"]
    if not found:
        raise ContentError(
            "adapter: {type: bitfit} trains biases, and this base has none",
            mend="use adapter: {type: ia3}, which trains as little, or {type: lora}",
        )
    return found


class Chosen(Adapter):
    """A share of the base's weights behind the adapter seam; the result is a whole model folder."""

    folder_name = "model"

    def __init__(self, choice: Choice):
        self._choice = choice
        self._trained: dict[str, Parameter] = {}
        self._base: dict[str, Tensor] = {}

    def attach(self, model: Any) -> None:
        """Freeze all but what is chosen. A weight with two names (a head tied to its table) is trained once."""
        self._model = model
        model.requires_grad_(False)
        by_name = dict(model.named_parameters(remove_duplicate=False))
        first = {parameter: name for name, parameter in reversed(by_name.items())}
        chosen = self._choice(list(by_name))
        self._trained = {first[by_name[name]]: by_name[name] for name in chosen}
        for parameter in self._trained.values():
            parameter.requires_grad_(True)
        self._base = {name: parameter.detach().clone() for name, parameter in self._trained.items()}

    def parameters(self) -> dict[str, Parameter]:
        """What is chosen, under the model's own names."""
        return dict(self._trained)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base's own values in place of the trained ones, which are put aside and not copied."""
        aside = {name: parameter.data for name, parameter in self._trained.items()}
        for name, parameter in self._trained.items():
            parameter.data = self._base[name]
        try:
            yield
        finally:
            for name, parameter in self._trained.items():
                parameter.data = aside[name]

    def save(self, folder: Path, base_name: str) -> None:
        """The whole model, config and weights in float32; the tokenizer is the caller's to add."""
        self._model.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """The trained weights back; the others are the base's."""
        stored = type(self._model).from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        weights = dict(stored.named_parameters(remove_duplicate=False))
        if {n: p.shape for n, p in weights.items()} != {
            n: p.shape for n, p in self._model.named_parameters(remove_duplicate=False)
        }:
            raise ContentError(
                "the trained weights do not fit this base", where=str(folder), why="their layers or sizes differ",
                mend="name the base that they were trained from",
            )  # fmt: skip
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(weights[name])

    def merge(self) -> None:
        """Nothing is beside the weights."""
