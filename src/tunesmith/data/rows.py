"""Rows as a sequence that does not have to fit into memory, and some of them as a sequence again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from ..core.messages import Example, Row
from .spool import Spool

R = TypeVar("R", bound=Row)
T = TypeVar("T")


class Lazy(Sequence[T], ABC, Generic[T]):
    """A sequence whose items are made when they are read. Slices are views."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def at(self, place: int) -> T:
        """The item at a place from 0 to the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return pick(self, range(len(self))[index])
        return self.at(range(len(self))[index])


class RowStore(Lazy[R], Generic[R]):
    """Rows of one kind, each made anew from its JSON when it is read: about ten microseconds.

    Read them in order where you can, and do not keep them. Two reads of a row give equal objects, not the same.
    """

    def __init__(self, rows: Iterable[R] = ()):
        self._spool = Spool()
        self._kind: TypeAdapter[Any] = _adapter(Example)
        for row in rows:
            self.append(row)

    def append(self, row: R) -> None:
        """One more row. OutputError where the disk takes no more."""
        if not len(self._spool):
            kind: Any = type(row)
            self._kind = _adapter(kind)
        self._spool.append(self._kind.dump_json(row, exclude_unset=True))

    def __len__(self) -> int:
        return len(self._spool)

    def at(self, place: int) -> R:
        """The row at a place."""
        return self._row(self._spool[place])

    def __iter__(self) -> Iterator[R]:
        return map(self._row, self._spool)

    def records(self, first: int = 0) -> Iterator[bytes]:
        """The rows' JSON, as it is kept, from the place `first` on; of rows too that are appended meanwhile."""
        return self._spool.read(first)

    def record(self, place: int) -> bytes:
        """The JSON of the row at a place."""
        return self._spool[place]

    def _row(self, record: bytes) -> R:
        row: R = self._kind.validate_json(record)
        return row


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


class Picked(Lazy[T], Generic[T]):
    """Some items of another sequence, in the order of `places` (int64 [N])."""

    def __init__(self, whole: Sequence[T], places: NDArray[np.int64]):
        self._whole, self._places = whole, places

    def records(self) -> Iterator[bytes]:
        """The JSON of each."""
        return (record(self._whole, place) for place in self._places.tolist())

    def __len__(self) -> int:
        return len(self._places)

    def at(self, place: int) -> T:
        """The item at a place."""
        return self._whole[int(self._places[place])]

    def __iter__(self) -> Iterator[T]:
        return (self._whole[place] for place in self._places.tolist())

    def pick(self, places: NDArray[np.int64]) -> Picked[T]:
        """Some of these, as items of the same whole: views do not pile up."""
        return Picked(self._whole, self._places[places])


class Joined(Lazy[T], Generic[T]):
    """Several sequences one behind the other."""

    def __init__(self, parts: Sequence[Sequence[T]]):
        self.parts = parts
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def at(self, place: int) -> T:
        """The item at a place."""
        part, within = self.part(place)
        return part[within]

    def part(self, place: int) -> tuple[Sequence[T], int]:
        """The sequence that a place belongs to, and the place in it."""
        part = int(np.searchsorted(self._ends, place, side="right"))
        return self.parts[part], place - (int(self._ends[part - 1]) if part else 0)

    def __iter__(self) -> Iterator[T]:
        for part in self.parts:
            yield from part


class Mapped(Lazy[T], Generic[T]):
    """What a function makes of each item of another sequence: a second copy of a gigabyte is never in memory."""

    def __init__(self, items: Sequence[Any], function: Callable[[Any], T]):
        self._items, self._function = items, function

    def __len__(self) -> int:
        return len(self._items)

    def at(self, place: int) -> T:
        """What is made of the item at a place."""
        return self._function(self._items[place])

    def __iter__(self) -> Iterator[T]:
        return map(self._function, self._items)


def records(rows: Sequence[Any]) -> Iterator[bytes]:
    """Each row's JSON; without making a row of it where it is kept so."""
    if isinstance(rows, RowStore | Picked):
        yield from rows.records()
    elif isinstance(rows, Joined):
        for part in rows.parts:
            yield from records(part)
    else:
        yield from map(_dumped, rows)


def record(rows: Sequence[Any], place: int) -> bytes:
    """The JSON of the row at a place."""
    if isinstance(rows, RowStore):
        return rows.record(place)
    if isinstance(rows, Joined):
        return record(*rows.part(place))
    return _dumped(rows[place])


def _dumped(row: Any) -> bytes:
    kind: Any = type(row)
    return _adapter(kind).dump_json(row, exclude_unset=True)


def pick(whole: Sequence[T], places: Iterable[int] | NDArray[np.int64]) -> Sequence[T]:
    """The items at these places, in this order, without a copy of any."""
    wanted = np.fromiter(places, dtype=np.int64) if not isinstance(places, np.ndarray) else places.astype(np.int64)
    if isinstance(whole, Picked):
        return whole.pick(wanted)
    if len(wanted) == len(whole) and np.array_equal(wanted, np.arange(len(whole))):
        return whole
    return Picked(whole, wanted)
