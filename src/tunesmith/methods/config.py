"""The `method` part of a recipe: one entry for each method."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..core.spec import ByName, Spec
from .preference.config import PreferenceSpec
from .pretrain.config import PretrainSpec
from .sft.config import SftSpec

MethodSpec = Annotated[SftSpec | PreferenceSpec | PretrainSpec, Field(discriminator="type"), ByName(default="sft")]
METHODS: dict[str, type[Spec]] = {"sft": SftSpec, "preference": PreferenceSpec, "pretrain": PretrainSpec}
"""By their names in a recipe."""
