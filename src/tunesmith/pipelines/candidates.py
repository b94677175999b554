"""What a pilot tries: the recipe under settings, each as `--set` takes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..adapters.config import LoraSpec
from ..core.errors import ContentError, UsageError
from ..models.find import find
from ..models.size import Size
from . import compatible
from .recipe import RunSpec
from .yaml_lines import parse

RATES = (1 / 3, 1.0, 3.0)
"""Multiples of the learning rate that are tried where nothing else is asked for."""
FULL_UP_TO = 200_000_000
"""Parameters of a base of which training every weight is tried as well."""
Read = Callable[[Sequence[str]], RunSpec]
"""The recipe under settings."""


@dataclass(frozen=True)
class Candidate:
    """The recipe under these settings."""

    settings: tuple[str, ...]
    spec: RunSpec

    @property
    def name(self) -> str:
        """In tables."""
        return ", ".join(self.settings) or "the recipe as it is"


def asked_for(read: Read, tries: Sequence[str]) -> list[Candidate]:
    """Every combination of the values of `KEY=V1,V2,...`. UsageError, and what reading the recipe raises."""
    choices = [_choices(text) for text in tries]
    return [Candidate(settings, read(settings)) for settings in itertools.product(*choices)]


def _choices(text: str) -> list[str]:
    key, equals, values = text.partition("=")
    mend = "for example --try adapter.r=8,32 --try training.learning_rate=0.0003,0.001"
    if not (equals and key.strip() and values.strip()):
        raise UsageError(f"--try takes KEY=VALUE,VALUE, not '{text}'", mend=mend)
    try:
        parse(f"[{values}]", "the values")
    except ContentError as error:
        raise UsageError(f"--try {text} holds no list of values", why=error.why, mend=mend) from error
    return [f"{key.strip()}={value}" for value in _split(values)]


def _split(values: str) -> list[str]:
    """At the commas that stand in no bracket."""
    found, depth = [""], 0
    for letter in values:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [value.strip() for value in found]


def usual(read: Read) -> list[Candidate]:
    """The recipe's adapter and others, each at three learning rates; what does not go with the base is left out."""
    own = read(())
    found = []
    for settings in _adapters(own):
        try:
            spec = read(settings)
            compatible.require(spec, find(spec.base))
        except ContentError:
            if not settings:
                raise
            continue
        for rate in RATES:
            chosen = (*settings, f"training.learning_rate={_rate(own, spec) * rate:.2g}")
            found.append(Candidate(chosen, read(chosen)))
    return found


def _adapters(own: RunSpec) -> list[tuple[str, ...]]:
    """Settings of the adapters that are tried, the recipe's own first."""
    found: list[tuple[str, ...]] = [()]
    if isinstance(own.adapter, LoraSpec):
        r, alpha = own.adapter.r, own.adapter.alpha
        if r >= 8:
            found.append((f"adapter.r={r // 4}", f"adapter.alpha={alpha / 4:g}"))
        found.append((f"adapter.dora={'false' if own.adapter.dora else 'true'}",))
    else:
        found.append(("adapter={type: lora}",))
    if own.adapter.keeps_base and Size.of(find(own.base)).parameters <= FULL_UP_TO:
        rehearsal = ("method.rehearsal=null",) if getattr(own.method, "rehearsal", None) else ()
        found.append(("adapter={type: full}", *rehearsal))  # which has no base left to reread
    return found


def _rate(own: RunSpec, other: RunSpec) -> float:
    """The recipe's learning rate, as it fits another adapter."""
    rate = own.training.learning_rate
    if rate == "auto":
        return other.adapter.auto_rate
    return rate * other.adapter.auto_rate / own.adapter.auto_rate
