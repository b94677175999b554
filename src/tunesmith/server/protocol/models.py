"""Models on the wire."""

from __future__ import annotations

from typing import Literal

from .common import Reply


class Model(Reply):
    """A model that answers."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class Models(Reply):
    """All of them; this list has no pages."""

    object: Literal["list"] = "list"
    data: list[Model]
