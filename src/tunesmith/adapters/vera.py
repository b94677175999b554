"""VeRA through PEFT (Kopiczko et al. 2023, arXiv 2310.11454, equation 2)."""

from __future__ import annotations

from typing import Any

from peft import VeraConfig
from peft.tuners.vera import VeraModel
from transformers.pytorch_utils import Conv1D

from . import folders
from .config_inside import VeraSpec
from .injected import Injected
from .linear import leaf, linear_layers, targeted


def vera(spec: VeraSpec) -> Injected:
    """VeRA behind the adapter seam. The random pair is saved too: another machine may draw another one."""
    return Injected(VeraModel, lambda model: _config(spec, model), ("vera_A", "vera_B"))


def _config(spec: VeraSpec, model: Any) -> VeraConfig:
    names = targeted(model, spec.targets)
    return VeraConfig(
        task_type=folders.task_type(model), r=spec.r, d_initial=spec.d, vera_dropout=spec.dropout,
        target_modules=sorted({leaf(name) for name in names}), save_projection=True,
        fan_in_fan_out=isinstance(linear_layers(model)[names[0]], Conv1D),
    )  # fmt: skip
