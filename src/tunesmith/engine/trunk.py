"""Which rows' hidden states below the lowest trained layer are kept for a training, where, and how they are made.

They are made before the first step, in portions that depend on the rows and the budget alone, so that a resumed run
finds the same numbers whatever it was about to do. Kept are rows that are seen more than once: those that come most
often first, of these the longest. The others are computed whenever they come, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.events import Progress, Sink, silent
from ..data.batch import Item, collate, evaluation_batches
from ..data.spool import Spool
from ..data.tokenize import Encoded
from ..models import trunk
from . import memory, precision
from .config import TrunkCacheSpec
from .objective import Lined, Objective, TorchBatch

PORTION_TOKENS = 4096
"""Padded tokens that the frozen layers read at once."""
AUTO_SHARE = 1 / 8
"""Of the machine's memory. Not of what is free just now: a resumed run must come to the same."""
_MIB = 1 << 20

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Seen:
    """Rows, and how often each of them comes in a training."""

    rows: Sequence[Item]
    times: Sequence[float]


@dataclass(frozen=True)
class Budget:
    """What may be kept, in tokens."""

    memory: int
    disk: int

    @property
    def tokens(self) -> int:
        """In all."""
        return self.memory + self.disk


NOTHING = Budget(0, 0)


class Kept:
    """Hidden states of rows by their keys, in memory first and in a temporary file then; see `models.trunk.States`."""

    def __init__(self, tokens: int, in_memory: int, like_LD: Tensor):
        """`tokens` is of how many there will be states, rows that are alike counted each; of them `in_memory` at most
        are kept in memory. `like` has the states' width and number type."""
        self.tokens, self._dtype, self._width = tokens, like_LD.dtype, like_LD.shape[-1]
        self._memory_TD = torch.empty(min(tokens, in_memory), self._width, dtype=self._dtype)
        self._used = 0
        self._places: dict[bytes, tuple[int, int]] = {}
        self._disk, self._numbers = Spool(in_memory=0), dict[bytes, int]()

    @property
    def rows(self) -> int:
        """How many rows' states are kept."""
        return len(self._places) + len(self._numbers)

    def put(self, key: bytes, states_LD: Tensor) -> None:
        """Keep a row's. OutputError where the disk takes no more."""
        if key in self._places or key in self._numbers:
            return
        end = self._used + len(states_LD)
        if end <= len(self._memory_TD):
            self._memory_TD[self._used : end] = states_LD
            self._places[key] = (self._used, end)
            self._used = end
        else:
            self._numbers[key] = len(self._disk)
            self._disk.append(states_LD.cpu().contiguous().view(torch.uint8).numpy().tobytes())

    def at(self, key: bytes) -> Tensor | None:
        """See `models.trunk.States`."""
        if key in self._places:
            return self._memory_TD[slice(*self._places[key])]
        if key in self._numbers:
            record = bytearray(self._disk[self._numbers[key]])
            return torch.frombuffer(record, dtype=self._dtype).view(-1, self._width)
        return None

    def told(self) -> str:
        """How many rows, how large, and where."""
        in_memory = self._used * self._width * self._dtype.itemsize
        held = f"{self.rows:,} rows, {in_memory / _MIB:,.1f} MB in memory"
        return f"{held}, {self._disk.size / _MIB:,.1f} MB on disk" if self._numbers else held


class TrunkCache:
    """A model's frozen lower layers, and what is to be kept of them."""

    def __init__(self, found: trunk.Trunk, number_type: str, pad_id: int):
        self._trunk, self._number_type, self._pad_id = found, number_type, pad_id
        self._device = found.model.get_input_embeddings().weight.device
        self._like_LD = self._states([np.arange(1, 3, dtype=np.int32)])[0]

    @staticmethod
    def of(model: Any, number_type: str, pad_id: int) -> TrunkCache | None:
        """None where the model has no frozen layers below all that is trained; see `models.trunk.find`."""
        found = trunk.find(model)
        return TrunkCache(found, number_type, pad_id) if found else None

    def budget(self, spec: TrunkCacheSpec) -> Budget:
        """What the recipe admits on this machine."""
        of_token = self._like_LD.shape[-1] * self._like_LD.dtype.itemsize
        auto = round(AUTO_SHARE * memory.machine_bytes())
        in_memory = auto if spec.memory_mb == "auto" else spec.memory_mb * _MIB
        return Budget(in_memory // of_token, spec.disk_mb * _MIB // of_token)

    def fill(
        self, objective: Objective, seen: Sequence[Seen], in_memory: int, tokens: int, sink: Sink = silent,
        go_on: Callable[[], bool] = lambda: True,
    ) -> Kept | None:  # fmt: skip
        """The states of the rows that fit into `tokens`, those of so many tokens in memory; None where there are none.

        `go_on` is asked behind every portion; None where it says no. Memory may run out; OutputError where the disk
        takes no more.
        """
        reading = _Reading(objective, seen, self._pad_id)
        chosen = reading.chosen(tokens)
        lengths = [line.length for line in chosen]
        kept, done = Kept(sum(lengths), in_memory, self._like_LD), 0
        for portion in evaluation_batches(lengths, PORTION_TOKENS):
            rows = [reading.tokens(chosen[place]) for place in portion]
            for row, states_LD in zip(rows, self._states(rows), strict=True):
                kept.put(trunk.key(row), states_LD)
            done += len(rows)
            sink(Progress(done, len(chosen), "rows through the frozen layers"))
            if not go_on():
                return None
        return kept if chosen else None

    def keeping(self, kept: Kept) -> AbstractContextManager[None]:
        """Inside the block the model's passes take what is kept."""
        return trunk.keeping(self._trunk, kept)

    def told(self, kept: Kept) -> str:
        """For the person who watches."""
        return f"the lower {self._trunk.depth} of {len(self._trunk.layers)} layers are computed once: {kept.told()}"

    def _states(self, rows: Sequence[Tokens]) -> list[Tensor]:
        """What the frozen layers make of rows, [length, D] each."""
        unweighted = [Encoded(row, np.zeros(len(row), dtype=np.float32)) for row in rows]
        batch = TorchBatch.of(collate(unweighted, self._pad_id), self._device)
        with torch.no_grad(), precision.context(self._number_type, self._trunk.model):
            states_BLD = self._trunk.states(batch.input_ids_BL, batch.attention_mask_BL)
        return [states_LD[: len(row)] for row, states_LD in zip(rows, states_BLD, strict=True)]


class _Line(NamedTuple):
    """A line of tokens that a model reads, and where it is found."""

    times: float
    length: int
    part: int
    row: int
    number: int
    """Among the lines of its row."""


class _Reading:
    """The lines of all rows, as the method's batches hand them to the model."""

    def __init__(self, objective: Objective, seen: Sequence[Seen], pad_id: int):
        self._objective, self._seen, self._pad_id = objective, seen, pad_id

    def chosen(self, tokens: int) -> list[_Line]:
        """Those to keep: that come most often, and the longest among them, until so many tokens are used up."""
        found = sorted(self._repeated(), key=lambda line: (-line.times, -line.length))
        ends = np.cumsum([line.length for line in found])
        return found[: int(np.searchsorted(ends, tokens, side="right"))]

    def tokens(self, line: _Line) -> Tokens:
        """A line's."""
        return self._lines(self._seen[line.part].rows[line.row])[line.number]

    def _repeated(self) -> Iterator[_Line]:
        for part, some in enumerate(self._seen):
            for number, times in enumerate(some.times):
                for at, line in enumerate(self._lines(some.rows[number]) if times > 1 else ()):
                    yield _Line(times, len(line), part, number, at)

    def _lines(self, row: Item) -> list[Tokens]:
        batch = self._objective.batch([row], self._pad_id, torch.device("cpu"))
        lines = batch.lines() if isinstance(batch, Lined) else None
        if lines is None:
            return []
        return [ids_L[mask_L.bool()].int().numpy() for ids_L, mask_L in zip(*lines, strict=True)]
