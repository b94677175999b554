"""The `adapter` part of a recipe: one table of all ways to train a model.

Each Spec tells what the rest of the house asks of a way before any model is loaded, so that adding one is a file for
the implementation, a Spec and an entry here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..core.spec import Spec
from .config_base import AdapterBase
from .config_inside import BottleneckSpec, Ia3Spec, LoraSpec, VeraSpec
from .config_virtual import PrefixSpec, PromptSpec, PTuningSpec
from .config_weights import BitFitSpec, FullSpec, LayersSpec

__all__ = [
    "ADAPTERS",
    "AdapterBase",
    "AdapterSpec",
    "BitFitSpec",
    "BottleneckSpec",
    "FullSpec",
    "Ia3Spec",
    "LayersSpec",
    "LoraSpec",
    "PTuningSpec",
    "PrefixSpec",
    "PromptSpec",
    "VeraSpec",
]

AdapterSpec = Annotated[
    LoraSpec
    | FullSpec
    | LayersSpec
    | BitFitSpec
    | Ia3Spec
    | VeraSpec
    | BottleneckSpec
    | PromptSpec
    | PTuningSpec
    | PrefixSpec,
    Field(discriminator="type"),
]
ADAPTERS: dict[str, type[Spec]] = {
    "lora": LoraSpec,
    "full": FullSpec,
    "layers": LayersSpec,
    "bitfit": BitFitSpec,
    "ia3": Ia3Spec,
    "vera": VeraSpec,
    "bottleneck": BottleneckSpec,
    "prompt": PromptSpec,
    "p_tuning": PTuningSpec,
    "prefix": PrefixSpec,
}
