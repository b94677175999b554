"""Ways that put small trained parts inside the base's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ..core.errors import MissingError
from .config_base import AdapterBase
from .names import last_blocks

if TYPE_CHECKING:
    from ..models.size import Size
    from .base import Adapter

Targets = Literal["all-linear"] | tuple[str, ...]
IA3_OUTPUTS = ("k_proj", "v_proj", "c_attn", "query_key_value", "qkv_proj", "k", "v")
"""Layers that give keys and values, alone or together with the queries, in the families that we know."""
IA3_INPUTS = ("down_proj", "dense_4h_to_h", "fc2", "wo", "mlp.c_proj")
"""Layers behind the nonlinearity of a feed-forward part."""
_TURNED = ("c_attn", "c_proj", "c_fc")
"""Layers that are kept as [in, out]."""


def _leaf(weight: str) -> str:
    return weight.removesuffix(".weight").rpartition(".")[2]


def _targeted(size: Size, targets: Targets, last: int | None = None) -> list[tuple[str, int, int]]:
    """(name, out, in) of the layers that `targets` means, of the last decoder blocks alone where so many are given."""
    wanted = [entry for entry in size.linear if targets == "all-linear" or _leaf(entry[0]) in targets]
    if last:
        above = set(last_blocks([name for name, _, _ in size.linear], last))
        wanted = [entry for entry in wanted if entry[0] in above]
    return [(name, b, a) if _leaf(name) in _TURNED else (name, a, b) for name, a, b in wanted]


class LoraSpec(AdapterBase):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): y = W x + (alpha / r) B A x, W frozen."""

    type: Literal["lora"] = "lora"
    r: int = Field(default=16, ge=1)
    """Rank of the two small matrices; at most the width of the narrowest layer adapted."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale of the addition: alpha / r."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the addition's inputs dropped in training."""
    targets: Targets = "all-linear"
    """Names of the layers adapted (`q_proj`, ...), or every linear layer but the vocabulary head.

    In a mixture of experts that is the attention and what all tokens share: router and experts, fused into one tensor
    a layer, stay as they are. `{type: full}` trains them too."""
    last: int | None = Field(default=None, ge=1)
    """Adapt this many of the last decoder blocks (`layers_to_transform` in PEFT's files); null for all. What lies below
    is then computed once for each row and kept, see `training.devices.trunk_cache`."""
    rslora: bool = False
    """Rank-stabilised scale alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732)."""

    dora: bool = False
    """Weight-decomposed adaptation (Liu et al. 2024, arXiv 2402.09353): each row's length is trained apart."""
    lora_plus: float | None = Field(default=None, gt=0)
    """LoRA+ (Hayou et al. 2024, arXiv 2402.12354): B learns at this many times the rate of A, 16 in the paper; null
    for one rate."""
    quantize: Literal["nf4", "int8"] | None = None
    """QLoRA (Dettmers et al. 2023, arXiv 2305.14314): the base's frozen linear layers are held in 4 bits (NF4 with
    double quantisation, 0.52 bytes a weight; needs `pip install 'tunesmith[quantize]'`) or in 8 (one scale a row), and
    so are they when the base is scored. null holds them as they are."""

    def reach(self, size: Size) -> float:
        """What lies before the last blocks learns nothing."""
        return min(1.0, self.last / max(size.layers, 1)) if self.last else 1.0

    def scaling(self) -> float:
        """The factor on B A."""
        return float(self.alpha / (self.r**0.5 if self.rslora else self.r))

    def told(self) -> str:
        """For a report."""
        name = "DoRA" if self.dora else "LoRA"
        plus = f", B at {self.lora_plus:g} times the rate" if self.lora_plus else ""
        last = f", last {self.last} blocks" if self.last else ""
        held = {"nf4": ", base held in 4 bits (NF4)", "int8": ", base held in 8 bits", None: ""}[self.quantize]
        return f"{name}, rank {self.r}, alpha {self.alpha:g}{last}{plus}{held}"

    def trained(self, size: Size) -> int:
        """r (out + in) a layer, and with DoRA its lengths."""
        wanted = _targeted(size, self.targets, self.last)
        return sum(self.r * (out + into) + (out if self.dora else 0) for _, out, into in wanted)

    def build(self) -> Adapter:
        """The implementation; MissingError where what `quantize` needs is not installed."""
        from ..models.quantize import Int8Linear, QuantizedLinear
        from .lora import Lora

        held: type[QuantizedLinear] | None = Int8Linear if self.quantize == "int8" else None
        if self.quantize == "nf4":
            try:
                from ..models.nf4 import Nf4Linear
            except ImportError as error:
                raise MissingError(
                    "adapter.quantize: nf4 needs bitsandbytes, which is not installed", why=str(error),
                    mend="pip install 'tunesmith[quantize]', or set adapter.quantize: int8",
                ) from error  # fmt: skip
            held = Nf4Linear
        return Lora(self, held)


class Ia3Spec(AdapterBase):
    """IA3 (Liu et al. 2022, arXiv 2205.05638, section 3.3): keys, values and the feed-forward part's inner activations
    are scaled by trained vectors that start at 1."""

    type: Literal["ia3"] = "ia3"
    outputs: tuple[str, ...] = ()
    """Layers whose outputs are scaled; empty: those of keys and values."""
    inputs: tuple[str, ...] = ()
    """Layers whose inputs are scaled; empty: the one that ends a feed-forward part, but for a mixture's experts."""

    auto_rate: ClassVar[float] = 3e-3

    def told(self) -> str:
        """For a report."""
        return "IA3"

    def trained(self, size: Size) -> int:
        """A value for each output, or each input, of a scaled layer."""
        outputs, inputs = self.outputs or IA3_OUTPUTS, self.inputs or IA3_INPUTS
        count = 0
        for name, out, into in _targeted(size, "all-linear"):
            whole = "." + name.removesuffix(".weight")
            if any(whole.endswith(f".{layer}") for layer in inputs):
                count += into
            elif any(whole.endswith(f".{layer}") for layer in outputs):
                count += out
        return count

    def build(self) -> Adapter:
        """The implementation."""
        from .ia3 import ia3

        return ia3(self)


class VeraSpec(AdapterBase):
    """VeRA (Kopiczko et al. 2023, arXiv 2310.11454, equation 2): y = W x + b * B (d * A x); one random frozen pair A, B
    serves all layers, and only the vectors d [r] and b [out] are trained."""

    type: Literal["vera"] = "vera"
    r: int = Field(default=256, ge=1)
    """Rows of A; may be large, as each costs one trained value a layer."""
    d: float = Field(default=0.1, gt=0)
    """What the vectors d start at; b starts at 0."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the addition's inputs dropped in training."""
    targets: Targets = "all-linear"
    """Names of the layers adapted, or every linear layer but the vocabulary head."""

    auto_rate: ClassVar[float] = 4e-3

    def told(self) -> str:
        """For a report."""
        return f"VeRA, rank {self.r}"

    def trained(self, size: Size) -> int:
        """out + r a layer."""
        return sum(out + self.r for _, out, _ in _targeted(size, self.targets))

    def build(self) -> Adapter:
        """The implementation."""
        from .vera import vera

        return vera(self)


class BottleneckSpec(AdapterBase):
    """Bottleneck adapters: x + U f(D x), inside the residual, behind the attention and the feed-forward part of each
    block (Houlsby et al. 2019, arXiv 1902.00751) or behind the feed-forward part alone (Pfeiffer et al. 2020, arXiv
    2005.00247)."""

    type: Literal["bottleneck"] = "bottleneck"
    style: Literal["houlsby", "pfeiffer"] = "pfeiffer"
    """Where the adapters stand."""
    width: int = Field(default=64, ge=1)
    """Values between D and U, at most the base's hidden size."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """The nonlinearity f."""

    auto_rate: ClassVar[float] = 5e-4
    cannot_merge: ClassVar[str | None] = "between its two matrices stands a nonlinearity, which no weight can hold"

    def told(self) -> str:
        """For a report."""
        return f"bottleneck adapters ({self.style.capitalize()}), width {self.width}"

    def trained(self, size: Size) -> int:
        """2 d m + d + m each (Houlsby et al., section 2.1)."""
        places = 2 if self.style == "houlsby" else 1
        return size.layers * places * (2 * size.hidden * self.width + size.hidden + self.width)

    def build(self) -> Adapter:
        """The implementation."""
        from .bottleneck import Bottleneck

        return Bottleneck(self)
