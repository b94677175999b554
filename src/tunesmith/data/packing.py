"""Sequences in rows of one length, so that nothing is computed for padding.

`documents` puts whole sequences beside each other: none sees another, and positions begin at 0 in each. A document
longer than a row is cut into full rows and a rest; what is whole or rest goes where the least room stays behind it, the
long ones first (best-fit decreasing, Ding et al. 2024, arXiv 2404.10830, section 3), so no document is cut that a row
could hold. `stream` is the classic: documents in a drawn order, one behind the other, cut wherever a row is full.

The first token of a row, of a document, of a piece is predicted by nothing that the model sees. So a piece, and a
row of a stream, begins with the last token of the one before it: every token that has one before it is learned once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .rows import Lazy
from .spool import Spool
from .tokenize import Encoded
from .tokens import Sizes

Packing = Literal["documents", "stream"]
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Packed:
    """A row of D sequences. Both arrays of tokens are [length]; `starts` are the sequences' first places, [D]."""

    input_ids: NDArray[np.int32]
    loss_weight: NDArray[np.float32]
    starts: NDArray[np.int64]

    @staticmethod
    def of(sequences: Sequence[Encoded]) -> Packed:
        """One behind the other."""
        lengths = [one.length for one in sequences]
        return Packed(
            np.concatenate([one.input_ids for one in sequences]),
            np.concatenate([one.loss_weight for one in sequences]),
            np.cumsum([0, *lengths[:-1]], dtype=np.int64),
        )

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.input_ids)

    @cached_property
    def weight(self) -> float:
        """Sum of the loss weights."""
        return float(self.loss_weight.sum(dtype="float64"))

    @cached_property
    def labelled(self) -> int:
        """How many tokens carry loss."""
        return int(np.count_nonzero(self.loss_weight))

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """Each by itself."""
        parts = zip(np.split(self.input_ids, self.starts[1:]), np.split(self.loss_weight, self.starts[1:]), strict=True)
        return tuple(Encoded(ids, weight) for ids, weight in parts)

    def positions(self) -> NDArray[np.int64]:
        """The place of each token in its own sequence, [length]."""
        lengths = np.diff(self.starts, append=self.length)
        return np.arange(self.length) - np.repeat(self.starts, lengths)


@dataclass(frozen=True)
class PackedBatch:
    """Padded rows, [B, L]. Padding is a sequence of its own: its positions begin at 0, its weight is 0."""

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    loss_weight: NDArray[np.float32]


def collate_packed(rows: Sequence[Packed], pad_id: int) -> PackedBatch:
    """Pad rows on the right to the longest."""
    longest = max(row.length for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    positions = np.zeros((len(rows), longest), dtype=np.int64)
    weight = np.zeros((len(rows), longest), dtype=np.float32)
    for number, row in enumerate(rows):
        n = row.length
        ids[number, :n], positions[number, :n], weight[number, :n] = row.input_ids, row.positions(), row.loss_weight
        positions[number, n:] = np.arange(longest - n)
    return PackedBatch(ids, positions, weight)


def pieces(ids: Ids, limit: int) -> Iterator[Ids]:
    """A document cut into pieces of at most `limit` tokens (2 or more), each beginning with the last token of the one
    before; none where there is nothing to predict."""
    for start in range(0, len(ids) - 1, limit - 1):
        yield ids[start : start + limit]


def best_fit(lengths: NDArray[np.int64], limit: int, seed: int) -> list[list[int]]:
    """Rows of places in `lengths`, each at most `limit` tokens, every place once.

    Sequences of one length come in an order drawn by the seed, so that rows are no copy of the files' order.
    O(N log N): rows are kept by the room they have, and a number's bits say for which rooms there is one.
    """
    drawn = np.random.default_rng(seed).permutation(len(lengths))
    order = drawn[np.argsort(-lengths[drawn], kind="stable")]
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms = 0
    for place, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms &= ~(1 << room)
        else:
            room, row = limit, len(rows)
            rows.append([])
        rows[row].append(place)
        left = room - length
        by_room.setdefault(left, []).append(row)
        rooms |= 1 << left
    return rows


class PackedRows(Lazy[Packed]):
    """Rows of several sequences each, put together when they are read. `rows` are places in `sequences`."""

    def __init__(self, sequences: Sequence[Encoded], rows: Sequence[Sequence[int]], sizes: Sizes):
        self._sequences = sequences
        self._bounds = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        self._places = np.fromiter((place for row in rows for place in row), np.int64, int(self._bounds[-1]))
        tokens, labelled, cut = (
            np.add.reduceat(of_each[self._places], self._bounds[:-1]) if len(rows) else np.zeros(0, np.int64)
            for of_each in (sizes.lengths, sizes.labelled, sizes.truncated.astype(np.int64))
        )
        self.sizes = Sizes(tokens, labelled, cut > 0)
        """Of the rows."""

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def at(self, place: int) -> Packed:
        """The row at a place."""
        mine = self._places[self._bounds[place] : self._bounds[place + 1]].tolist()
        return Packed.of([self._sequences[number] for number in mine])


class Pieces(Lazy[Encoded]):
    """Sequences of which every token but the first is learned, kept as the bytes of their ids."""

    def __init__(self) -> None:
        self._spool, self._lengths = Spool(), array("q")

    def append(self, ids: Ids) -> None:
        """One more. OutputError where the disk takes no more."""
        self._spool.append(ids.tobytes())
        self._lengths.append(len(ids))

    def __len__(self) -> int:
        return len(self._spool)

    def at(self, place: int) -> Encoded:
        """The sequence at a place; its ids are a read-only view."""
        return learned(np.frombuffer(self._spool[place], dtype=np.int32))

    def sizes(self) -> Sizes:
        """Of all so far."""
        lengths = np.array(self._lengths, dtype=np.int64)
        return Sizes(lengths, np.maximum(lengths - 1, 0), np.zeros(len(lengths), dtype=bool))


def learned(ids: Ids) -> Encoded:
    """A sequence of which every token is predicted from those before it."""
    weight = np.ones(len(ids), dtype=np.float32)
    weight[:1] = 0
    return Encoded(ids, weight)


def pack_sequences(
    sequences: Sequence[Encoded], times: Sequence[int], sizes: Sizes, limit: int, seed: int
) -> PackedRows:
    """Rows of whole sequences, none longer than `limit`, each as often as `times` says."""
    seen = np.repeat(np.arange(len(sequences)), np.asarray(times, dtype=np.int64))
    rows = [seen[row].tolist() for row in best_fit(sizes.lengths[seen], limit, seed)]
    return PackedRows(sequences, rows, sizes)


def pack_documents(documents: Iterable[tuple[Ids, int]], limit: int, seed: int) -> PackedRows:
    """Rows of whole documents and pieces, from (tokens, how often the document is seen)."""
    kept, times = Pieces(), array("q")
    for ids, count in documents:
        for piece in pieces(ids, limit):
            kept.append(piece)
            times.append(count)
    return pack_sequences(kept, times, kept.sizes(), limit, seed)


def pack_stream(documents: Iterable[tuple[Ids, int]], limit: int, seed: int) -> PackedRows:
    """Rows of one stream of all documents in an order drawn by the seed, from (tokens, how often each is seen)."""
    whole, times = Pieces(), array("q")
    for ids, count in documents:
        whole.append(ids)
        times.append(count)
    seen = np.repeat(np.arange(len(whole)), np.array(times, dtype=np.int64))
    kept, waiting = Pieces(), np.zeros(0, dtype=np.int32)
    for number in np.random.default_rng(seed).permutation(seen).tolist():
        waiting = np.concatenate((waiting, whole[number].input_ids))
        done = (len(waiting) - 1) // (limit - 1) * (limit - 1)
        for row in pieces(waiting[: done + 1], limit):
            kept.append(row)
        waiting = waiting[done:]
    for row in pieces(waiting, limit):
        kept.append(row)
    return PackedRows(kept, [[place] for place in range(len(kept))], kept.sizes())


PACKERS = {"documents": pack_documents, "stream": pack_stream}
"""By their names in a recipe."""
