"""The `method` part of a recipe: one entry for each method."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..core.spec import ByName, Spec
from .distill.config import DistillSpec
from .preference.config import PreferenceSpec
from .sft.config import SftSpec

MethodSpec = Annotated[SftSpec | PreferenceSpec | DistillSpec, Field(discriminator="type"), ByName(default="sft")]
METHODS: dict[str, type[Spec]] = {"sft": SftSpec, "preference": PreferenceSpec, "distill": DistillSpec}
"""By their names in a recipe."""
