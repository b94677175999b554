"""Models in memory under a budget of bytes: bases once, their LoRAs beside them, others whole.

What is asked for is loaded; what was used longest ago goes when room is needed, unless it is held. One thread alone may
use it: the one that answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..adapters.config import AdapterSpec, LoraSpec
from ..adapters.several import Several
from ..engine import memory
from ..engine.precision import DTYPES
from ..models import load
from ..models.size import Size
from .ask import Served
from .errors import NoRoomError

Key = tuple[Path, str, Path | None]
"""Base folder, number type, adapter folder."""


def key_of(served: Served) -> Key:
    """Equal for models that are the same weights."""
    return served.base.folder, served.number_type, served.adapter


def context_of(served: Served) -> int | None:
    """The longest sequence in tokens, less what the adapter takes for itself; None where nothing binds it."""
    whole = served.base.context
    return whole - (served.spec.virtual_tokens() if served.spec else 0) if whole else None


@dataclass(eq=False)
class Slot:
    """A model that is loaded."""

    name: str
    model: Any
    bytes: int
    several: Several | None = None
    """Of a base: what holds the LoRAs beside it."""
    base: Slot | None = None
    """Of a LoRA: what it stands beside."""
    label: str = ""
    """Of a LoRA: its name in the base's `several`."""
    holders: int = 0
    used: int = field(default=0)

    @contextmanager
    def on(self) -> Iterator[Any]:
        """The model, switched to this adapter or to none."""
        several = self.base.several if self.base else self.several
        if several:
            several.use(self.label or None)
        yield self.model


class Slots:
    """All that is loaded."""

    def __init__(self, budget: int):
        """`budget` in bytes of weights."""
        self._budget = budget
        self._slots: dict[Key, Slot] = {}
        self._clock = 0
        self._labels = 0

    def hold(self, served: Served) -> Slot:
        """The model, loaded where it is not, kept until it is given back. NoRoomError where what is held leaves too
        little room; ContentError or MissingError where it cannot be loaded."""
        slot = self._slots.get(key_of(served)) or self._loaded(served)
        self._clock += 1
        for one in (slot, slot.base):
            if one:
                one.holders += 1
                one.used = self._clock
        return slot

    def give_back(self, slot: Slot) -> None:
        """What `hold` gave, once for each time."""
        for one in (slot, slot.base):
            if one:
                one.holders -= 1

    def forget(self, folder: Path) -> bool:
        """Drop what was loaded from a folder, adapter or base; whether nobody held any of it."""
        found = [key for key in self._slots if folder in (key[0], key[2])]
        free = [key for key in found if not self._slots[key].holders]
        for key in sorted(free, key=lambda key: key[2] is None):
            if key in self._slots:
                self._drop(key)
        return len(free) == len(found)

    def loaded(self) -> dict[str, int]:
        """Bytes by name."""
        return {slot.name: slot.bytes for slot in self._slots.values()}

    def _loaded(self, served: Served) -> Slot:
        key = key_of(served)
        if served.adapter is None:
            slot = self._base(served)
        elif served.spec is None or _shares(served.spec):
            slot = self._beside(served, served.adapter)
        else:
            slot = self._alone(served, served.spec, served.adapter)
        self._slots[key] = slot
        return slot

    def _base(self, served: Served) -> Slot:
        self._make_room(_weight(served), served)
        model: Any = load.model(served.base, DTYPES[served.number_type])
        return Slot(served.base.name, model, _bytes(model), several=Several(model))

    def _beside(self, served: Served, adapter: Path) -> Slot:
        """A LoRA on its base, which is loaded first and not dropped for it."""
        base = self.hold(Served(served.base.name, served.base, number_type=served.number_type, date=served.date))
        try:
            several = base.several
            if several is None:
                raise NoRoomError(f"{served.name} cannot stand beside its base", why="its base is no base by itself")
            self._make_room(_file_bytes(adapter), served, own=base)
            self._labels += 1
            label = str(self._labels)
            several.load(label, adapter)
            return Slot(served.name, base.model, several.stored_bytes(label), base=base, label=label)
        finally:
            self.give_back(base)

    def _alone(self, served: Served, spec: AdapterSpec, adapter: Path) -> Slot:
        """An adapter of a family that cannot share, with a base of its own."""
        self._make_room(_weight(served) + _file_bytes(adapter), served)
        made = spec.build()
        model: Any = load.model(served.base, DTYPES[served.number_type])
        made.attach(model)
        made.load(adapter)
        model.eval()
        return Slot(served.name, model, _bytes(model))

    def _make_room(self, wanted: int, served: Served, own: Slot | None = None) -> None:
        """Drop what was used longest ago until `wanted` bytes fit. `own` is held for this very model."""
        free = sorted((key for key, slot in self._slots.items() if not slot.holders), key=self._age)
        while self._taken() + wanted > self._budget:
            if not free:
                held = any(slot.holders > (slot is own) for slot in self._slots.values())
                raise NoRoomError(
                    f"there is no memory for {served.name} now", held=held,
                    why=f"it takes {wanted} bytes; {self._taken()} of {self._budget} are in use",
                    mend="raise the budget for weights, or ask fewer models at once",
                )  # fmt: skip
            key = free.pop(0)
            if key in self._slots:
                self._drop(key)

    def _age(self, key: Key) -> tuple[int, bool]:
        """Adapters go before their base, which is as new as the newest of them."""
        return self._slots[key].used, key[2] is None

    def _drop(self, key: Key) -> None:
        slot = self._slots.pop(key)
        if slot.base and slot.base.several:
            slot.base.several.drop(slot.label)
            return
        for other in [other for other, one in self._slots.items() if one.base is slot]:
            del self._slots[other]
        del slot
        memory.free()  # takes a third of a second, which a LoRA is not worth

    def _taken(self) -> int:
        return sum(slot.bytes for slot in self._slots.values())


def _shares(spec: AdapterSpec) -> bool:
    """Whether the adapter is a LoRA that can stand beside others on one base."""
    return isinstance(spec, LoraSpec) and not spec.dora and not spec.quantize


def _weight(served: Served) -> int:
    """Bytes that the base's weights will take; those of a quantised one are fewer in the end."""
    return Size.of(served.base).parameters * DTYPES[served.number_type].itemsize


def _file_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _bytes(model: torch.nn.Module) -> int:
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
