"""A teacher's likeliest tokens at every label of many rows: computed once, kept on disk, read row by row.

They lie in portions of consecutive rows, a safetensors file each, written whole or not at all: a computation that was
interrupted goes on with the portions that are missing. Each portion says in its header what it belongs to and what its
bytes hash to; one that belongs elsewhere or is damaged is computed again. When training, files are mapped into memory
and a row's part is read where it is wanted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ...core import files
from ...data.rows import Lazy
from ...data.tokenize import Encoded
from .taught import Likely, Taught

PORTION_BYTES = 32 << 20
_BYTES = 8
"""Of a kept token: an int32 and a float32."""

Compute = Callable[[Sequence[Encoded]], Iterator[tuple[int, Likely]]]
"""Some rows to (place among them, the teacher's view on its labels), in any order."""


@dataclass(frozen=True)
class Portion:
    """Consecutive rows whose view is one file."""

    path: Path
    first: int
    end: int
    """The row behind the last."""
    identity: str


class Kept:
    """The teacher's view on `rows` in a folder, `top_k` tokens a label. `labels` says how many labels each row has."""

    def __init__(
        self, folder: Path, name: str, rows: Sequence[Encoded], top_k: int, identity: str,
        portion_bytes: int = PORTION_BYTES,
    ):  # fmt: skip
        self._folder, self._rows, self._top_k = folder, rows, top_k
        labels = np.fromiter((row.labelled for row in rows), dtype=np.int64, count=len(rows))
        self.starts = np.concatenate([[0], np.cumsum(labels)])
        """Labels before each row, [rows + 1]."""
        self.portions = [
            Portion(folder / f"{name}-{number:05d}.safetensors", first, end, f"{identity} {first}:{end} x {top_k}")
            for number, (first, end) in enumerate(_cut(labels, max(1, portion_bytes // (_BYTES * top_k))))
        ]

    def missing(self) -> list[Portion]:
        """The portions that are not there, or not of these rows and this teacher, or damaged."""
        return [portion for portion in self.portions if not self._whole(portion)]

    def compute(self, missing: Sequence[Portion], view: Compute, on_rows: Callable[[int], None]) -> None:
        """Write portions; `on_rows` gets how many rows each held. OutputError where the disk takes them not."""
        files.make_folder(self._folder)
        labels = sum(self._labels(portion) for portion in missing)
        files.require_space(self._folder, labels * (_BYTES * self._top_k + 4))
        for portion in missing:
            found = self._empty(self._labels(portion))
            start = int(self.starts[portion.first])
            for place, likely in view([self._rows[i] for i in range(portion.first, portion.end)]):
                row = portion.first + place
                at = slice(int(self.starts[row]) - start, int(self.starts[row + 1]) - start)
                found.words[at], found.logp[at], found.rest[at] = likely.words, likely.logp, likely.rest
            files.write_bytes(portion.path, _written(found, portion.identity))
            on_rows(portion.end - portion.first)

    def read(self) -> TaughtRows:
        """The rows with the teacher's view, when nothing is missing."""
        return TaughtRows(self._rows, self.portions, self.starts)

    def mass(self) -> float:
        """The share of the teacher's probability that the kept tokens have, over all labels; nan without labels."""
        whole = 0.0
        for portion in self.portions:
            with safe_open(portion.path, framework="numpy") as stored:
                whole += float(stored.metadata()["mass"])
        return whole / int(self.starts[-1]) if self.starts[-1] else float("nan")

    def _labels(self, portion: Portion) -> int:
        return int(self.starts[portion.end] - self.starts[portion.first])

    def _empty(self, labels: int) -> Likely:
        shape = (labels, self._top_k)
        return Likely(
            np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32), np.zeros(labels, dtype=np.float32)
        )

    def _whole(self, portion: Portion) -> bool:
        try:
            with safe_open(portion.path, framework="numpy") as stored:
                told = stored.metadata() or {}
                if told.get("identity") != portion.identity:
                    return False
                found = Likely(*(stored.get_tensor(part) for part in ("words", "logp", "rest")))
        except (OSError, SafetensorError, json.JSONDecodeError):
            return False
        return told.get("digest") == _digest(found)


class TaughtRows(Lazy[Taught]):
    """Rows whose view is read from mapped files."""

    def __init__(self, rows: Sequence[Encoded], portions: Sequence[Portion], starts: NDArray[np.int64]):
        self._rows, self._portions, self._starts = rows, portions, starts
        self._ends = np.array([portion.end for portion in portions])
        with ExitStack() as opening:
            self._files: list[Any] = [
                opening.enter_context(safe_open(portion.path, framework="numpy")) for portion in portions
            ]
            self._closing = opening.pop_all()

    def __len__(self) -> int:
        return len(self._rows)

    def at(self, place: int) -> Taught:
        """The row at a place."""
        number = int(np.searchsorted(self._ends, place, side="right"))
        before = int(self._starts[self._portions[number].first])
        first, end = int(self._starts[place]) - before, int(self._starts[place + 1]) - before
        parts = (self._files[number].get_slice(part)[first:end] for part in ("words", "logp", "rest"))
        return Taught(self._rows[place], Likely(*parts))


def _cut(labels: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """(first, end) of runs of rows with at most `most` labels together, or of one row."""
    first, held = 0, 0
    for place, count in enumerate(labels.tolist()):
        if place > first and held + count > most:
            yield first, place
            first, held = place, 0
        held += count
    if len(labels):
        yield first, len(labels)


def _written(found: Likely, identity: str) -> bytes:
    mass = float(np.exp(found.logp, dtype=np.float64).sum())
    told = {"identity": identity, "digest": _digest(found), "mass": repr(mass)}
    return save(vars(found), metadata=told)


def _digest(found: Likely) -> str:
    digest = hashlib.sha256()
    for part in vars(found).values():
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
