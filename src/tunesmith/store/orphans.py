"""Blobs that no row names: left behind by a process that was killed between a blob and its row.

What is younger than the grace time may still get its row: what comes behind a file in a request has to arrive in less
(`server/body.py`), and a part that an upload waits with has a row of its own. And what another database names must not
be taken for an orphan, as when a server is pointed at another database and back: a folder is marked with the id of its
database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select

from ..core import files
from . import tables
from .database import Store

GRACE = 86_400.0
"""Seconds."""
MARK = "database-id"
"""The file of a store's folder that says whose it is."""
_ASKED = 500
"""Names that one query asks for."""


@dataclass(frozen=True)
class Swept:
    """What was removed: blobs without a row, and files that never became blobs."""

    blobs: int = 0
    unfinished: int = 0
    foreign: bool = False
    """Whether nothing was done, because the folder is another database's."""


def sweep(store: Store, *, grace: float = GRACE) -> Swept:
    """Remove orphans that are older than `grace` seconds. May run beside everything else."""
    if not mark(store):
        return Swept(foreign=True)
    removed = 0
    for names in _parts(store.blobs.names(idle=grace)):
        for name in set(names) - _named(store, names):
            store.blobs.delete(name)
            removed += 1
    return Swept(removed, store.blobs.clear(idle=grace))


def _parts(names: Iterable[str]) -> Iterator[list[str]]:
    """As many as one query asks for."""
    rest = iter(names)
    while part := list(islice(rest, _ASKED)):
        yield part


def _named(store: Store, names: list[str]) -> set[str]:
    """Those that a row names."""
    found = set[str]()
    with store.reading() as connection:
        for table in (tables.files, tables.upload_parts):
            found |= set(connection.execute(select(table.c.blob).where(table.c.blob.in_(names))).scalars())
    return found


def mark(store: Store) -> bool:
    """Whether the folder is this database's. One without a mark gets it, if it is empty or holds anything of ours."""
    with store.reading() as connection:
        mine = connection.execute(select(tables.identity.c.id)).scalar_one()
    place = store.folder / MARK
    if place.is_file():
        return place.read_text("utf-8").strip() == str(mine)
    there = list(store.blobs.names())
    if there and not any(_named(store, part) for part in _parts(there)):
        return False
    files.write_text(place, f"{mine}\n")
    return True
