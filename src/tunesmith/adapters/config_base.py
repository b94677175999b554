"""What every adapter's Spec tells before a model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..core.spec import Spec

if TYPE_CHECKING:
    from ..models.size import Size
    from .base import Adapter


class AdapterBase(Spec):
    """The parts that all adapters have. The values here are those of an addition that can be folded into the base."""

    trains_base: ClassVar[bool] = False
    """Whether weights of the base's own are trained: the model is then held in float32."""
    keeps_base: ClassVar[bool] = True
    """Whether the base can be had back from the trained model."""
    auto_rate: ClassVar[float] = 2e-4
    """What `training.learning_rate: auto` means."""
    cannot_merge: ClassVar[str | None] = None
    """Why the addition cannot be folded into the base's weights; None where it can."""
    cannot_checkpoint: ClassVar[str | None] = None
    """Why activation checkpointing does not go with it; None where it does."""
    cannot_shard: ClassVar[str | None] = None
    """Why FSDP does not go with it; None where it does."""

    def virtual_tokens(self) -> int:
        """Places of the base's context that the adapter takes for itself."""
        return 0

    def reach(self, size: Size) -> float:
        """The share of a base's layers that the backward pass goes through."""
        return 1.0

    def told(self) -> str:
        """What it is, in the words of a report."""
        raise NotImplementedError

    def trained(self, size: Size) -> int:
        """How many parameters it trains in a base of this size."""
        raise NotImplementedError

    def build(self) -> Adapter:
        """The implementation."""
        raise NotImplementedError
