"""Ways that train what the base reads before every text, and nothing inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from .config_base import AdapterBase

if TYPE_CHECKING:
    from ..models.size import Size
    from .base import Adapter

_NO_WEIGHT = "it is read before every text, and no weight of the base can hold it"


class VirtualBase(AdapterBase):
    """What prompt tuning, P-tuning and prefix tuning share."""

    tokens: int = Field(default=20, ge=1)
    """Virtual tokens before every text; they take as many places of the base's context."""

    auto_rate: ClassVar[float] = 1e-2
    cannot_merge: ClassVar[str | None] = _NO_WEIGHT
    cannot_shard: ClassVar[str | None] = "its virtual tokens are put in outside the blocks that are shared out"

    def virtual_tokens(self) -> int:
        """As many as are trained."""
        return self.tokens


class PromptSpec(VirtualBase):
    """Prompt tuning (Lester et al. 2021, arXiv 2104.08691): the embeddings of virtual tokens before every text are
    trained. They start as those of words drawn from the vocabulary."""

    type: Literal["prompt"] = "prompt"

    def told(self) -> str:
        """For a report."""
        return f"prompt tuning, {self.tokens} virtual tokens"

    def trained(self, size: Size) -> int:
        """One embedding a token."""
        return self.tokens * size.hidden

    def build(self) -> Adapter:
        """The implementation."""
        from .prompt import Prompt

        return Prompt(self)


class PTuningSpec(VirtualBase):
    """P-tuning (Liu et al. 2021, arXiv 2103.10385): as prompt tuning, but a small network writes the embeddings. Only
    what it wrote is saved."""

    type: Literal["p_tuning"] = "p_tuning"
    encoder: Literal["mlp", "lstm"] = "mlp"
    """The network: three layers, or two of a two-way LSTM with two layers behind, as in the paper."""
    width: int = Field(default=128, ge=1)
    """Its hidden size."""

    auto_rate: ClassVar[float] = 1e-3

    def told(self) -> str:
        """For a report."""
        return f"P-tuning, {self.tokens} virtual tokens ({self.encoder.upper()})"

    def trained(self, size: Size) -> int:
        """The embeddings that the network reads, and the network."""
        d, m = size.hidden, self.width
        if self.encoder == "mlp":
            network = (d * m + m) + (m * m + m) + (m * d + d)
        else:
            first, second = 2 * (4 * m * (d + m) + 8 * m), 2 * (4 * m * (2 * m + m) + 8 * m)
            network = first + second + (4 * m * m + 2 * m) + (2 * m * d + d)
        return self.tokens * d + network

    def build(self) -> Adapter:
        """The implementation."""
        from .prompt import Prompt

        return Prompt(self)


class PrefixSpec(VirtualBase):
    """Prefix tuning (Li & Liang 2021, arXiv 2101.00190): the keys and values of virtual tokens in every layer are
    trained."""

    type: Literal["prefix"] = "prefix"
    projection: bool = False
    """Write them by a network of two layers, as in the paper's section 4.3; only what it wrote is saved."""
    width: int = Field(default=128, ge=1)
    """Hidden size of that network."""

    cannot_checkpoint: ClassVar[str | None] = "the prefix lies in the key-value cache, which recomputed layers lack"

    def told(self) -> str:
        """For a report."""
        return f"prefix tuning, {self.tokens} virtual tokens"

    def trained(self, size: Size) -> int:
        """A key and a value for each token and layer, or the network that writes them."""
        inside = 2 * size.layers * size.key_value
        if not self.projection:
            return self.tokens * inside
        d, m = size.key_value, self.width
        return self.tokens * d + (d * m + m) + (m * inside + inside)

    def build(self) -> Adapter:
        """The implementation."""
        from .prefix import Prefix

        return Prefix(self)
