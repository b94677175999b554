"""Two files of rows against each other, whatever their formats and the order of their rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ContentError
from ..core.messages import Row
from ..data import identity, versions
from ..data.hub import local
from ..data.load import Loaded, load

_SHORT = 60


@dataclass(frozen=True)
class Side:
    """One of the two files. `unread` rows could not be read, and are not compared."""

    path: str
    format: str
    rows: int
    root: str
    unread: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A row of A and one of B with the same prompt: the parts that differ, and how where that was asked for."""

    a: str
    b: str
    parts: tuple[str, ...]
    difference: dict[str, str] = field(default_factory=dict)
    """By part, in words: `It takes [-five-]{+six+} days`."""


@dataclass(frozen=True)
class Alone:
    """A row that only one file has, and a few words of it where that was asked for."""

    place: str
    text: str = ""


@dataclass(frozen=True)
class Difference:
    """What two files have in common, and what not. Rows twice in one file and once in the other differ once."""

    a: Side
    b: Side
    same: int
    changed: tuple[Change, ...]
    only_a: tuple[Alone, ...]
    only_b: tuple[Alone, ...]

    @property
    def equal(self) -> bool:
        """Whether both hold the same rows, as often. Unread rows make that uncertain, so then it is not said."""
        return self.a.root == self.b.root and not self.a.unread and not self.b.unread

    @property
    def counts(self) -> dict[str, int]:
        """How many rows are the same, changed, and in one alone."""
        return {
            "same": self.same, "changed": len(self.changed), "only_a": len(self.only_a), "only_b": len(self.only_b)
        }  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Plain values, with what is asked most at the head."""
        return {"equal": self.equal, "counts": self.counts} | asdict(self)


def diff(a: Path, b: Path, *, show: int) -> Difference:
    """Compare two files. Of each kind of difference the first `show` are given in words, the others by place.

    MissingError and ContentError for files that cannot be read, and for rows of different kinds.
    """
    ours, theirs = load(local(a)), load(local(b))
    if ours.kind != theirs.kind and ours.records and theirs.records:
        raise ContentError(
            f"{a} holds rows of kind '{ours.kind}', {b} of kind '{theirs.kind}': no row can be the same",
            mend="compare files of one kind; tunesmith data convert brings each into its other formats",
        )
    found = [identity.digests(loaded.records) for loaded in (ours, theirs)]
    matched = versions.match(ours.records, theirs.records, *found)
    changed = tuple(
        _change(ours.records[i], theirs.records[j], said=number < show) for number, (i, j) in enumerate(matched.changed)
    )
    return Difference(
        _side(ours, identity.root(found[0])), _side(theirs, identity.root(found[1])), matched.same, changed,
        _alone(ours, matched.only_a, show), _alone(theirs, matched.only_b, show),
    )  # fmt: skip


def _side(loaded: Loaded, root: str) -> Side:
    unread = tuple(f"{problem.place}: {problem.reason}" for problem in loaded.problems)
    return Side(str(loaded.path), loaded.format, len(loaded.records), root, unread)


def _change(a: Row, b: Row, *, said: bool) -> Change:
    parts = versions.differences(a, b)
    words = {name: versions.word_difference(*pair) for name, pair in parts.items()} if said else {}
    return Change(a.origin, b.origin, tuple(parts), words)


def _alone(loaded: Loaded, indices: Iterable[int], show: int) -> tuple[Alone, ...]:
    rows = (loaded.records[i] for i in indices)
    return tuple(Alone(row.origin, _outline(row) if number < show else "") for number, row in enumerate(rows))


def _outline(row: Row) -> str:
    return "  →  ".join(_short(text) for text in versions.outline(row))


def _short(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: 4 * _SHORT].split())
    return line if len(line) <= _SHORT else f"{line[:_SHORT]}..."
