"""Tokenized rows as a sequence that does not have to fit into memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .rows import Lazy
from .spool import Spool
from .tokenize import Encoded


@dataclass(frozen=True)
class Sizes:
    """What is known of N tokenized rows without reading them again."""

    lengths: NDArray[np.int64]
    """Tokens, int64 [N]."""
    labelled: NDArray[np.int64]
    """Tokens that carry loss, int64 [N]."""
    truncated: NDArray[np.bool_]
    """Whether the length limit cut the row, bool [N]."""

    @staticmethod
    def of(rows: Iterable[Encoded]) -> Sizes:
        """Those of rows at hand."""
        store = TokenStore(keep=False)
        for row in rows:
            store.append(row)
        return store.sizes()

    def pick(self, places: Sequence[int] | NDArray[np.int64]) -> Sizes:
        """Those of some rows."""
        at = np.asarray(places, dtype=np.int64)
        return Sizes(self.lengths[at], self.labelled[at], self.truncated[at])

    def joined(self, other: Sizes) -> Sizes:
        """Those of these rows and of others behind them."""
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sizes(*(np.concatenate(pair) for pair in both))


class TokenStore(Lazy[Encoded]):
    """Rows as tokens, kept as the bytes of their two arrays; a read gives read-only views of them.

    Without `keep` only the sizes are kept: an audit needs no more.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._spool = Spool()
        self._lengths, self._labelled, self._truncated = array("i"), array("i"), array("b")

    def append(self, row: Encoded) -> None:
        """One more row. OutputError where the disk takes no more."""
        self._spool.append(row.input_ids.tobytes() + row.loss_weight.tobytes() if self._keep else b"")
        self._lengths.append(len(row.input_ids))
        self._labelled.append(row.labelled)
        self._truncated.append(row.truncated)

    def sizes(self) -> Sizes:
        """Of all rows so far."""
        lengths, labelled = (np.array(counts, dtype=np.int64) for counts in (self._lengths, self._labelled))
        return Sizes(lengths, labelled, np.array(self._truncated, dtype=bool))

    def __len__(self) -> int:
        return len(self._spool)

    def at(self, place: int) -> Encoded:
        """The row at a place."""
        return _encoded(self._spool[place], self._truncated[place])

    def __iter__(self) -> Iterator[Encoded]:
        return map(_encoded, self._spool, self._truncated)


class HasSequences(Protocol):
    """A row as a method learns it."""

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """The lines of tokens that it is made of."""


def fingerprint(rows: Iterable[HasSequences]) -> str:
    """Hex BLAKE2b over the ids and loss weights of rows in their order."""
    digest = hashlib.blake2b(digest_size=32)
    for one in (sequence for row in rows for sequence in row.sequences):
        digest.update(one.length.to_bytes(8, "little"))
        digest.update(one.input_ids.tobytes())
        digest.update(one.loss_weight.tobytes())
    return digest.hexdigest()


def _encoded(record: bytes, truncated: int) -> Encoded:
    half = len(record) // 2
    ids = np.frombuffer(record, dtype=np.int32, count=half // 4)
    return Encoded(ids, np.frombuffer(record, dtype=np.float32, offset=half), bool(truncated))
