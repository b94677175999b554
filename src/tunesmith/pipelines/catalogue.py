"""Every way to learn and every way to be trained, from the recipe's own schema: what `tunesmith methods` lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..adapters.config import ADAPTERS
from ..core.spec import Spec
from ..data.audit import TokenFacts
from ..data.config import DataSpec, SourceSpec
from ..data.load import METHODS as ROWS
from ..data.tokens import Sizes
from ..methods.config import METHODS
from ..methods.preference.config import LossSpec, PreferenceSpec
from ..models.find import find
from ..models.refs import DEFAULT
from ..models.size import Size
from .forecast import forecast
from .recipe import RunSpec

Section = Literal["method", "loss", "adapter"]
_PAPER = re.compile(r"arXiv\s+(\d{4}\.\d{5})")


@dataclass(frozen=True)
class Way:
    """One entry. What does not apply is empty."""

    section: Section
    name: str
    what: str
    rows: tuple[str, ...] = ()
    """The kinds of rows that it learns from."""
    updates: str = ""
    trained: int | None = None
    """Parameters of the base asked for that are trained, with the adapter's defaults."""
    memory: float | None = None
    """Bytes of weights, gradients and optimizer state as a share of full fine-tuning's, both by `forecast`. What
    activations take on top is much the same for all."""
    papers: tuple[str, ...] = ()
    """arXiv numbers."""


@dataclass(frozen=True)
class Catalogue:
    """All ways, and the base that their figures are for."""

    base: str
    ways: list[Way]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"base": self.base, "ways": [asdict(way) for way in self.ways]}


def catalogue(base: str = DEFAULT) -> Catalogue:
    """Methods, preference losses, adapters. MissingError, ContentError for a base that cannot be read."""
    return Catalogue(base, [*_methods(), *_losses(), *_adapters(Size.of(find(base)))])


def _methods() -> Iterator[Way]:
    for name, spec in METHODS.items():
        yield Way("method", name, _first_sentence(spec), _kinds(spec), "what the adapter says", papers=_papers(spec))


def _losses() -> Iterator[Way]:
    """Those of learning from preferences, each a method of its own in the literature."""
    for spec in get_args(get_args(LossSpec)[0]):
        loss = spec()
        kinds = PreferenceSpec(loss=loss).kinds
        yield Way("loss", loss.type, _first_sentence(spec), kinds, "what the adapter says", papers=_papers(spec))


def _adapters(size: Size) -> Iterator[Way]:
    whole = _memory(ADAPTERS["full"](), size)
    for name, spec in ADAPTERS.items():
        for shown, adapter in _variants(name, spec):
            trained, memory = adapter.trained(size), _memory(adapter, size) / whole
            yield Way("adapter", shown, _first_sentence(spec), (), adapter.told(), trained, memory, _papers(spec))


def _variants(name: str, spec: Any) -> Sequence[tuple[str, Any]]:
    """An adapter with its defaults, and LoRA's relatives, which are settings of it."""
    if name == "layers":
        return [(name, spec(last=2))]
    if name != "lora":
        return [(name, spec())]
    more: dict[str, dict[str, Any]] = {"rslora": {"rslora": True}, "dora": {"dora": True}, "qlora": {"quantize": "nf4"}}
    return [(name, spec()), *((f"{name} ({which})", spec(**settings)) for which, settings in more.items())]


def _memory(adapter: Any, size: Size) -> float:
    spec = RunSpec(data=DataSpec(train=(SourceSpec(path="rows"),)), adapter=adapter)
    memory = forecast(spec, size, TokenFacts.of(Sizes.of([]))).memory["bf16"]
    return memory.weights + memory.trained


def _kinds(spec: Any) -> tuple[str, ...]:
    found = spec.kinds
    return found if isinstance(found, tuple) else tuple(kind for kind in ROWS if kind in ("preference", "labelled"))


def _first_sentence(spec: type[Spec]) -> str:
    """What the Spec says first, without the papers."""
    text = re.sub(r"\s*\([^()]*arXiv[^()]*\)", "", " ".join((spec.__doc__ or "").split()))
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0].rstrip(".")


def _papers(spec: type[Spec]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_PAPER.findall(" ".join((spec.__doc__ or "").split()))))
