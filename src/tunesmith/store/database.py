"""The database by URL, and the folder beside it where files, jobs and runs lie.

SQLite by default, PostgreSQL by URL. A block of `writing()` is one transaction: all of it or nothing. On SQLite it
takes the write lock at once (BEGIN IMMEDIATE), so that what it read cannot change before it writes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event, func, literal, select, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import QueuePool

from ..core import files
from ..core.errors import MissingError, OutputError, TunesmithError, UsageError
from . import schema, tables
from .blobs import Blobs, FolderBlobs

T = TypeVar("T")
Also = Callable[[Connection, T], object]
"""What else is written in the transaction that makes a record: neither is there without the other."""

_BUSY_SECONDS = 30.0
"""How long a write waits for another one on SQLite."""
_POSTGRES = "-c idle_in_transaction_session_timeout=15000 -c lock_timeout=15000"
"""A client that was stopped in the midst of a transaction loses it, and its locks, after 15 seconds."""
_WAL_SINCE = (3, 51, 3)
"""Older SQLite can damage a database in WAL mode when two connections meet in a checkpoint (fixed in 3.51.3,
https://sqlite.org/wal.html, "the WAL-reset bug"); there a rollback journal is kept, at nearly the same speed."""


def home() -> Path:
    """Where state lives that is no run: TUNESMITH_HOME, else `~/.local/share/tunesmith`."""
    return Path(os.environ.get("TUNESMITH_HOME") or Path.home() / ".local/share/tunesmith").absolute()


class GoneError(TunesmithError):
    """The database does not answer. What was to be written is not written; it may be tried again."""


class Store:
    """One database and one folder. Threads may share it; processes open their own."""

    def __init__(self, engine: Engine, folder: Path, blobs: Blobs, clock: Callable[[], float] | None = None):
        self.engine, self.folder, self.blobs = engine, folder, blobs
        self._clock = clock

    @staticmethod
    def open(
        url: str | None = None, folder: Path | None = None, *, blobs: Blobs | None = None,
        clock: Callable[[], float] | None = None,
    ) -> Store:  # fmt: skip
        """Open, and bring the schema up to date. Raises UsageError, MissingError, OutputError.

        `folder` is `TUNESMITH_HOME` unless given, `url` a SQLite file in it. `clock` replaces the database's in tests.
        """
        folder = files.make_folder((folder or home()).absolute())
        url = url or f"sqlite:///{folder / 'tunesmith.db'}"
        engine = _engine(url)
        with reachable(url):
            schema.upgrade(engine)
        return Store(engine, folder, blobs or FolderBlobs(folder / "blobs"), clock)

    @property
    def jobs_folder(self) -> Path:
        """Where jobs have their folders, by id."""
        return self.folder / "jobs"

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write. GoneError when the database does not answer."""
        with reachable(str(self.engine.url)), self.engine.connect() as connection:
            connection.execution_options(writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads: it sees one state, and stops no writer for longer than it lasts."""
        with reachable(str(self.engine.url)), self.engine.connect() as connection, connection.begin():
            yield connection

    def now(self, connection: Connection) -> float:
        """Seconds since 1970 by the database's clock, which all workers and servers share."""
        if self._clock:
            return self._clock()
        if connection.dialect.name == "sqlite":
            days = connection.execute(select(func.julianday("now"))).scalar_one()
            return (float(days) - 2440587.5) * 86400.0
        return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())

    def hold(self, connection: Connection, lock: str) -> None:
        """Keep others out of what `lock` guards until the transaction ends."""
        connection.execute(select(tables.locks.c.name).where(tables.locks.c.name == lock).with_for_update()).one()

    def check(self) -> None:
        """GoneError unless the database answers."""
        with self.reading() as connection:
            connection.execute(select(literal(1)))

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn "the database does not answer" into a GoneError, and a full or read-only disk into an OutputError."""
    try:
        yield
    except OperationalError as error:
        first = str(error.orig).splitlines()[0] if error.orig else str(error)
        where = make_url(url).render_as_string(hide_password=True)
        if any(word in first for word in ("disk is full", "readonly", "read-only", "No space left")):
            raise OutputError(f"cannot write {where}", why=first, mend="free some space, or make it writable") from None
        raise GoneError(
            "the database does not answer", where=where, why=first, mend="see that it runs; then try again"
        ) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise GoneError("the connection to the database broke", why=str(error.orig), mend="try again") from error


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed.render_as_string(hide_password=False))
        settings = {"connect_timeout": 5, "options": _POSTGRES}
        return create_engine(parsed, pool_pre_ping=True, pool_size=20, connect_args=settings)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(
            f"'{url.partition('@')[0]}' is no database URL", why=str(error),
            mend="sqlite:///path/to/file.db, or postgresql://user:password@host/database",
        ) from error  # fmt: skip
    except ModuleNotFoundError as error:
        raise MissingError(
            "PostgreSQL needs a driver that is not installed", why=str(error), mend="pip install 'tunesmith[postgres]'"
        ) from error


def _sqlite(url: str) -> Engine:
    engine = create_engine(
        url, poolclass=QueuePool, pool_size=20,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )  # fmt: skip
    journal = "WAL" if sqlite3.sqlite_version_info >= _WAL_SINCE else "DELETE"

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # this module says BEGIN itself: the driver would do so too late
        for setting in (f"journal_mode={journal}", "synchronous=FULL", "foreign_keys=ON", "mmap_size=0"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.execute(text("BEGIN IMMEDIATE" if writes else "BEGIN"))

    return engine
