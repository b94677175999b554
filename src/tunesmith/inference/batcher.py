"""Who is answered next: waiting answers, bounded, taken in turn by key. Knows neither models nor threads.

`Batcher` is the seam. The one here is static: a batch is what waits for one model when the batch begins.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import BusyError


@dataclass(frozen=True, eq=False)
class Waiting:
    """One answer that waits."""

    key: str
    """Whose it is."""
    model: Hashable
    """Only answers of equal models share a batch."""
    work: Any
    """The caller's own."""


class Batcher(Protocol):
    """Answers that wait, and the order in which they are taken. One thread at a time."""

    def add(self, items: Sequence[Waiting]) -> None:
        """All of them or none: BusyError where they would be too many."""

    def first(self) -> Waiting | None:
        """Whose turn it is; it stays so until something is taken or dropped."""

    def take(self, most: int, fits: Callable[[Waiting], bool]) -> list[Waiting]:
        """The first, and what else shall share its batch: at most `most` answers of one model. `fits` is asked in
        order; the one that does not fit is the first that is left."""

    def drop(self, gone: Callable[[Waiting], bool]) -> list[Waiting]:
        """Take out and give those that nobody waits for any more."""

    def __len__(self) -> int:
        """How many wait."""


class Turns:
    """Keys in turn, each key's answers in their order.

    The key whose turn it is says which model; the batch is filled from all keys, one answer of each in turn, by answers
    for the same model. So a key with a thousand waiting answers delays another's only one by one of its own.
    """

    def __init__(self, room: int):
        """`room` is how many may wait."""
        self._room = room
        self._keys: OrderedDict[str, deque[Waiting]] = OrderedDict()
        """The key whose turn is next stands first."""

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def add(self, items: Sequence[Waiting]) -> None:
        """At the end of their keys' lines."""
        if len(self) + len(items) > self._room:
            raise BusyError(
                "too many requests wait to be answered", why=f"{len(self)} of at most {self._room} wait",
                mend="try again in some seconds",
            )  # fmt: skip
        for item in items:
            self._keys.setdefault(item.key, deque()).append(item)

    def first(self) -> Waiting | None:
        """Of the key whose turn it is."""
        return next((line[0] for line in self._keys.values()), None)

    def take(self, most: int, fits: Callable[[Waiting], bool]) -> list[Waiting]:
        """One answer of each key in turn."""
        first = self.first()
        if first is None:
            return []
        taken: list[Waiting] = []
        missed: set[str] = set()
        while len(taken) < most and len(missed) < len(self._keys):
            key = next(key for key in self._keys if key not in missed)
            found = next((item for item in self._keys[key] if item.model == first.model), None)
            if found is None:
                missed.add(key)
                continue
            if not fits(found):
                break
            taken.append(found)
            self._keys[key].remove(found)
            self._keys.move_to_end(key)
            if not self._keys[key]:
                del self._keys[key]
        return taken

    def drop(self, gone: Callable[[Waiting], bool]) -> list[Waiting]:
        """From every line."""
        dropped = [item for line in self._keys.values() for item in line if gone(item)]
        left = {key: deque(item for item in line if not gone(item)) for key, line in self._keys.items()}
        self._keys = OrderedDict((key, line) for key, line in left.items() if line)
        return dropped
