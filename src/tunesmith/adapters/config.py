"""The `adapter` part of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ..core.spec import Spec

if TYPE_CHECKING:
    from .base import Adapter


class LoraSpec(Spec):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): y = W x + (alpha / r) B A x, W frozen."""

    type: Literal["lora"] = "lora"
    r: int = Field(default=16, ge=1)
    """Rank of the two small matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale of the addition: alpha / r."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the addition's inputs dropped in training."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the layers adapted (`q_proj`, ...), or every linear layer but the vocabulary head.

    In a mixture of experts that is the attention and what all tokens share: router and experts, fused into one tensor
    a layer, stay as they are. `{type: full}` trains them too."""
    rslora: bool = False
    """Rank-stabilised scale alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732)."""

    dora: bool = False
    """Weight-decomposed adaptation (Liu et al. 2024, arXiv 2402.09353): each row's length is trained apart."""

    trains_base: ClassVar[bool] = False

    def scaling(self) -> float:
        """The factor on B A."""
        return float(self.alpha / (self.r**0.5 if self.rslora else self.r))

    def build(self) -> Adapter:
        """The implementation."""
        from .lora import Lora

        return Lora(self)


class FullSpec(Spec):
    """Full fine-tuning: every weight of the base is trained."""

    type: Literal["full"] = "full"

    trains_base: ClassVar[bool] = True

    def build(self) -> Adapter:
        """The implementation."""
        from .full import Full

        return Full()


AdapterSpec = Annotated[LoraSpec | FullSpec, Field(discriminator="type")]
ADAPTERS: dict[str, type[Spec]] = {"lora": LoraSpec, "full": FullSpec}
