"""Ways that train weights of the base's own: all of them, some of them, the biases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from .config_base import AdapterBase
from .names import chosen_names, last_blocks

if TYPE_CHECKING:
    from ..models.size import Size
    from .base import Adapter

_SWAP = "the base's values of what is trained lie whole beside the shared out weights"


class FullSpec(AdapterBase):
    """Full fine-tuning: every weight of the base is trained."""

    type: Literal["full"] = "full"

    trains_base: ClassVar[bool] = True
    keeps_base: ClassVar[bool] = False
    auto_rate: ClassVar[float] = 2e-5

    def told(self) -> str:
        """For a report."""
        return "every weight"

    def trained(self, size: Size) -> int:
        """All of them."""
        return size.parameters

    def build(self) -> Adapter:
        """The implementation."""
        from .full import Full

        return Full()


class LayersSpec(AdapterBase):
    """Some of the base's own weights are trained, the others stay frozen: the last blocks, or what is named."""

    type: Literal["layers"] = "layers"
    last: int | None = Field(default=None, ge=1)
    """Train this many of the last decoder blocks."""
    names: tuple[str, ...] = Field(default=())
    """Train the modules and parameters with these names: whole parts of the dotted name (`mlp.down_proj`, `lm_head`,
    `layers.5`), or a pattern for the whole of it (`*.layers.[45].*`)."""

    trains_base: ClassVar[bool] = True
    auto_rate: ClassVar[float] = 5e-5
    cannot_shard: ClassVar[str | None] = _SWAP

    @model_validator(mode="after")
    def _one_of_two(self) -> LayersSpec:
        if (self.last is None) == (not self.names):
            raise ValueError("give either `last: N` or `names: [...]`")
        return self

    def reach(self, size: Size) -> float:
        """What lies before the last blocks learns nothing."""
        return min(1.0, self.last / max(size.layers, 1)) if self.last else 1.0

    def told(self) -> str:
        """For a report."""
        if self.last is None:
            return "the weights named " + ", ".join(self.names)
        return f"the last {self.last} blocks" if self.last > 1 else "the last block"

    def trained(self, size: Size) -> int:
        """Of the weights in the base's files, those that are chosen."""
        shapes = dict(size.shapes)
        chosen = last_blocks(list(shapes), self.last) if self.last else chosen_names(list(shapes), self.names)
        return sum(math.prod(shapes[name]) for name in chosen)

    def build(self) -> Adapter:
        """The implementation."""
        from .chosen import Chosen, layers

        return Chosen(layers(self))


class BitFitSpec(AdapterBase):
    """BitFit (Ben Zaken et al. 2021, arXiv 2106.10199): the biases are trained and nothing else.

    Bases without biases (Llama, Gemma) are refused.
    """

    type: Literal["bitfit"] = "bitfit"

    trains_base: ClassVar[bool] = True
    auto_rate: ClassVar[float] = 1e-3
    cannot_shard: ClassVar[str | None] = _SWAP

    def told(self) -> str:
        """For a report."""
        return "the biases (BitFit)"

    def trained(self, size: Size) -> int:
        """Every bias."""
        return sum(math.prod(shape) for name, shape in size.shapes if name.rpartition(".")[2] == "bias")

    def build(self) -> Adapter:
        """The implementation."""
        from .chosen import Chosen, biases

        return Chosen(biases)
