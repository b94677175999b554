"""Which rows a run learned from: a line for each in `training-rows.tsv`, and one root for them all.

So it can be said later of any row whether a model has seen it, and how often: its `data.identity.digest` stands in the
file or does not. The rows themselves are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..data import identity
from ..data.identity import Digests
from .rundir import RunDir

FILE = "training-rows.tsv"
_HEAD = "digest\ttimes\trow\n"
_PORTION = 4096


@dataclass(frozen=True)
class TrainedRows:
    """The training rows, each with what it is and how often an epoch shows it."""

    digests: Digests
    times: Sequence[int]
    rows: Sequence[Any]

    def root(self) -> str:
        """What the set is, in whatever order; a row counts as often as an epoch shows it."""
        return identity.root(self.digests, self.times)

    def lines(self) -> Iterator[bytes]:
        """The file's content, in pieces: digest in hex, times, file and line."""
        yield _HEAD.encode()
        told: list[str] = []
        for digest, times, row in zip(self.digests, self.times, self.rows, strict=True):
            told.append(f"{digest.tobytes().hex()}\t{times}\t{row.origin}\n")
            if len(told) == _PORTION:
                yield "".join(told).encode("utf-8", "surrogateescape")
                told.clear()
        yield "".join(told).encode("utf-8", "surrogateescape")


def seen(run: RunDir) -> set[str]:
    """The digests in hex of the rows that a run was trained on; empty of runs that kept none."""
    file = run.path / FILE
    if not file.is_file():
        return set()
    with file.open("r", encoding="utf-8", errors="surrogateescape") as lines:
        return {line.partition("\t")[0] for line in lines}
