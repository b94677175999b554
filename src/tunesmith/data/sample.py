"""A seeded sample of a file's rows, for `check --quick`: the same rows each time, each under its own line number.

Of JSON Lines the sampled lines alone are parsed; the others are only counted, at the speed of the disk. Every line has
the same chance, whatever its length. Of any other file the first rows are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from . import source
from .lines import json_line, too_long
from .raw import LIMITS, Limits, RawRow

ROWS = 5000
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Sampled:
    """How a file was sampled."""

    rows: int
    of: int | None
    """The rows of the file; None where only reading all of it would tell."""
    estimated: bool
    """Whether `of` follows from the file's size."""
    spread: bool
    """Whether the rows are drawn from the whole file, or are its first."""


@dataclass
class Sampler:
    """Reads files in place of `source.rows`, and notes how each was sampled."""

    rows: int = ROWS
    seed: int = 0
    files: dict[str, Sampled] = field(default_factory=dict)

    def __call__(
        self, path: Path, *, asked: str | None, known: source.Known, limits: Limits = LIMITS
    ) -> Iterator[RawRow]:  # fmt: skip
        """Up to `rows` rows of the file, in their order."""
        if asked != "text" and _holds_json_lines(path):
            yield from self._spread(path, limits)
        else:
            yield from self._first(path, source.rows(path, asked=asked, known=known, limits=limits))

    def _spread(self, path: Path, limits: Limits) -> Iterator[RawRow]:
        with path.open("rb") as file:
            counts = _lines_by_block(file)
            total = int(counts.sum())
            size = min(self.rows, total)
            drawn = np.sort(np.random.default_rng(self.seed).choice(total, size, replace=False))
            self.files[str(path)] = Sampled(size, total, estimated=False, spread=size < total)
            for number, line in _lines_at(file, drawn + 1, counts, limits):
                if line is None:
                    yield RawRow(number, reason=too_long(limits))
                elif line.strip():
                    yield source.checked(json_line(number, line), limits)

    def _first(self, path: Path, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        count = size = 0
        for raw in islice(rows, self.rows):
            count += 1
            size += len(orjson.dumps(raw.value, default=str)) if raw.value is not None else 0
            yield raw
        if next(rows, None) is None:
            self.files[str(path)] = Sampled(count, count, estimated=False, spread=False)
            return
        plain = size and source.plain(path)
        total = max(count + 1, round(path.stat().st_size * count / size)) if plain else None
        self.files[str(path)] = Sampled(count, total, estimated=bool(plain), spread=False)


def _holds_json_lines(path: Path) -> bool:
    """Whether the file is plain text that begins with an object; `source.rows` reads such files line by line."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(1 << 12)
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") and b"\0" not in head


def _lines_by_block(file: BinaryIO) -> NDArray[np.int64]:
    """How many lines begin in each block of the file."""
    counts: list[int] = []
    begins = True
    file.seek(0)
    while block := file.read(_BLOCK):
        ends = block.endswith(b"\n")
        counts.append(block.count(b"\n") + begins - ends)
        begins = ends
    return np.array(counts, dtype=np.int64)


def _lines_at(
    file: BinaryIO, numbers: NDArray[np.int64],
    counts: NDArray[np.int64], limits: Limits,
) -> Iterator[tuple[int, bytes | None]]:  # fmt: skip
    """(number from 1, line) of the lines with these numbers; None for one over the limit."""
    first = np.concatenate([[0], np.cumsum(counts)])  # lines that begin before each block
    blocks = np.searchsorted(first, numbers, side="left") - 1
    for block in np.unique(blocks).tolist():
        file.seek(max(0, block * _BLOCK - 1))
        if block and file.read(1) != b"\n":
            _to_next_line(file)
        at = int(first[block])
        for number in numbers[blocks == block].tolist():
            while at + 1 < number:
                _to_next_line(file)
                at += 1
            line = file.readline(limits.row + 1)
            at += 1
            if len(line) > limits.row and not line.endswith(b"\n"):
                _to_next_line(file)
                yield number, None
            else:
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _to_next_line(file: BinaryIO) -> None:
    while (piece := file.readline(1 << 20)) and not piece.endswith(b"\n"):
        pass
