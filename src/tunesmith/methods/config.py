"""The `method` part of a recipe: one entry for each method."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..core.spec import ByName, Spec
from .classify.config import ClassifySpec
from .distill.config import DistillSpec
from .preference.config import PreferenceSpec
from .pretrain.config import PretrainSpec
from .reward.config import RewardSpec
from .sft.config import SftSpec

MethodSpec = Annotated[
    SftSpec | PretrainSpec | DistillSpec | PreferenceSpec | RewardSpec | ClassifySpec,
    Field(discriminator="type"),
    ByName(default="sft"),
]
METHODS: dict[str, type[Spec]] = {
    "sft": SftSpec,
    "pretrain": PretrainSpec,
    "distill": DistillSpec,
    "preference": PreferenceSpec,
    "reward": RewardSpec,
    "classify": ClassifySpec,
}
"""By their names in a recipe."""
