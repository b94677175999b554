"""Adapter folders in PEFT's layout: `adapter_config.json` beside `adapter_model.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from ..core.errors import ContentError

PEFT_PREFIX = "base_model.model."
"""Before a layer's name in PEFT's files."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def write(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Both files; sets in the config become sorted lists, so that equal adapters give equal bytes."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", "utf-8")


def read(folder: Path) -> dict[str, Tensor]:
    """The tensors. ContentError where they cannot be read."""
    try:
        return load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors has an error type of its own for each kind of damage
        raise ContentError(f"cannot read {folder / WEIGHTS}", why=str(error)) from error


def read_config(folder: Path) -> dict[str, Any]:
    """The settings. ContentError where they cannot be read."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ContentError(f"cannot read {folder / CONFIG}", why=str(error)) from error
    return config


def put(stored: Mapping[str, Tensor], mine: Mapping[str, Parameter | Tensor], folder: Path) -> None:
    """Copy what was stored into what is attached; ContentError where names or shapes differ."""
    if {n: t.shape for n, t in stored.items()} != {n: p.shape for n, p in mine.items()}:
        raise ContentError(
            "the adapter does not fit this base", where=str(folder), why="their layers or sizes differ",
            mend="name the base that the adapter was trained on",
        )  # fmt: skip
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(stored[name])


def task_type(model: Any) -> str:
    """What PEFT calls the model's task."""
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
