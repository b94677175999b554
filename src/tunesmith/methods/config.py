"""The `method` part of a recipe: one entry for each method."""

from __future__ import annotations

from ..core.spec import Spec
from .sft.config import SftSpec

MethodSpec = SftSpec
"""A union on `type` as soon as there is a second method."""
METHODS: dict[str, type[Spec]] = {"sft": SftSpec}
