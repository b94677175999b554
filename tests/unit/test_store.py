"""The database: its schema by migrations, transactions, and what is said when it does not answer; and blobs."""

from __future__ import annotations

import io
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, insert, inspect, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from records import Clock, database, postgres
from tunesmith.core.errors import ConflictError, MissingError, OutputError, UsageError
from tunesmith.store import schema, tables
from tunesmith.store.blobs import Blobs, FolderBlobs, MemoryBlobs, TooLargeError
from tunesmith.store.database import GoneError, Store


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fresh.db'}"
    return database(request.getfixturevalue("server"))


def _shape(engine: Engine) -> dict[str, object]:
    """Everything that a database tells of its tables."""
    found = inspect(engine)
    by_name: Callable[[dict[str, object]], str] = lambda part: str(part.get("name"))  # noqa: E731
    return {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)],
            "key": found.get_pk_constraint(table),
            "unique": sorted(found.get_unique_constraints(table), key=by_name),
            "foreign": sorted(found.get_foreign_keys(table), key=by_name),
            "indexes": sorted(found.get_indexes(table), key=by_name),
            "checks": sorted(found.get_check_constraints(table), key=by_name),
        }
        for table in sorted(found.get_table_names())
        if table != "alembic_version"
    }


def test_a_migrated_database_is_a_fresh_one(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    on_sqlite = url.startswith("sqlite")
    other = f"sqlite:///{tmp_path / 'other.db'}" if on_sqlite else database(request.getfixturevalue("server"))
    migrated, fresh = create_engine(url), create_engine(other)
    schema.upgrade(migrated)
    tables.metadata.create_all(fresh)
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    assert _shape(migrated) == _shape(fresh)
    assert len(_shape(migrated)) == len(tables.metadata.tables)
    migrated.dispose()
    fresh.dispose()


def test_autoincrement_is_that_of_the_tables(tmp_path: Path) -> None:
    """SQLite gives a deleted row's number again unless told otherwise, and cursors would jump."""
    store = Store.open(folder=tmp_path)
    with store.reading() as connection:
        made = connection.execute(text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")).scalars()
        told = {t.name for t in tables.metadata.tables.values() if t.dialect_options["sqlite"].get("autoincrement")}
        assert set(made) == told
    store.close()


def test_opening_twice_changes_nothing_and_a_newer_database_is_refused(tmp_path: Path) -> None:
    Store.open(folder=tmp_path).close()
    store = Store.open(folder=tmp_path)
    with store.writing() as connection:
        assert set(connection.execute(select(tables.locks.c.name)).scalars()) == {"audit", "claim"}
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(ConflictError, match="newer"):
        Store.open(folder=tmp_path)


def test_many_that_open_a_new_database_at_once_all_can_use_it(url: str, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            Store.open(url, tmp_path).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    store = Store.open(url, tmp_path)
    with store.reading() as connection:
        assert len(connection.execute(select(tables.locks)).all()) == 2
    store.close()


def test_a_transaction_is_all_or_nothing(url: str, tmp_path: Path) -> None:
    store = Store.open(url, tmp_path)
    project = {"id": "p", "name": "p", "organization": "o", "created_at": 1.0}

    def twice() -> None:
        with store.writing() as connection:
            connection.execute(insert(tables.projects).values(**project))
            connection.execute(insert(tables.projects).values(**project))

    with pytest.raises(IntegrityError):
        twice()
    with store.reading() as connection:
        assert connection.execute(select(tables.projects)).all() == []
    store.close()


def test_what_no_status_is_cannot_be_written(url: str, tmp_path: Path) -> None:
    store = Store.open(url, tmp_path)
    with pytest.raises(IntegrityError), store.writing() as connection:
        connection.execute(
            insert(tables.uploads).values(
                id="u", project_id="nowhere", filename="f", purpose="p", bytes=1, mime_type="m", created_at=1.0,
                expires_at=2.0, status="done",
            )
        )  # fmt: skip
    store.close()


def test_a_writer_waits_for_another_and_sees_what_it_wrote(tmp_path: Path) -> None:
    """Two that read, add one and write: none of the sums is lost."""
    store = Store.open(folder=tmp_path)
    with store.writing() as connection:
        connection.execute(insert(tables.audit_head).values(id=1, number=0, hash=""))

    def add() -> None:
        for _ in range(10):
            with store.writing() as connection:
                number = connection.execute(select(tables.audit_head.c.number)).scalar_one()
                connection.execute(tables.audit_head.update().values(number=number + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as connection:
        assert connection.execute(select(tables.audit_head.c.number)).scalar_one() == 40
    store.close()


def test_sqlite_keeps_to_a_rollback_journal_where_wal_can_lose_data(tmp_path: Path) -> None:
    store = Store.open(folder=tmp_path)
    with store.reading() as connection:
        mode = connection.execute(text("PRAGMA journal_mode")).scalar_one()
        foreign = connection.execute(text("PRAGMA foreign_keys")).scalar_one()
        synchronous = connection.execute(text("PRAGMA synchronous")).scalar_one()
    store.close()
    assert (mode == "wal") == (sqlite3.sqlite_version_info >= (3, 51, 3))
    assert (foreign, synchronous) == (1, 2)


def test_the_time_is_the_databases_unless_a_test_has_its_own(url: str, tmp_path: Path) -> None:
    store = Store.open(url, tmp_path)
    with store.reading() as connection:
        apart = store.now(connection) - float(connection.execute(text("SELECT 1")).scalar_one())
        again = store.now(connection)
    assert 1.7e9 < apart + 1 <= again < 4e9
    store.close()
    clock = Clock()
    store = Store.open(url, tmp_path, clock=clock)
    with store.reading() as connection:
        assert store.now(connection) == clock.at
    store.close()


def test_what_no_database_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no database URL"):
        Store.open("nonsense", tmp_path)
    with pytest.raises(UsageError, match="no database URL"):
        Store.open("oracle9://secret@host/x", tmp_path)
    with pytest.raises(GoneError, match="does not answer") as told:
        Store.open("postgresql://someone:secret@127.0.0.1:1/x", tmp_path)
    assert "secret" not in str(told.value)
    with pytest.raises(GoneError):
        Store.open(f"sqlite:///{tmp_path}/nowhere/x.db", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        Store.open(folder=tmp_path / "file" / "below")


# blobs


@pytest.fixture(params=["folder", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return FolderBlobs(tmp_path / "blobs") if request.param == "folder" else MemoryBlobs()


def test_what_is_put_can_be_read_until_it_is_deleted(blobs: Blobs) -> None:
    content = bytes(range(256)) * 9000
    stored = blobs.put(io.BytesIO(content))
    with blobs.open(stored.name) as file:
        assert file.read() == content
    pieces = blobs.put([content[:7], content[7:]])
    assert (stored.size, stored.sha256) == (pieces.size, pieces.sha256) == (len(content), pieces.sha256)
    assert stored.name != pieces.name
    blobs.delete(stored.name)
    blobs.delete(stored.name)
    with pytest.raises(MissingError):
        blobs.open(stored.name)


def test_all_that_lies_there_is_listed_by_the_time_it_stood_still(blobs: Blobs) -> None:
    first, second = blobs.put([b"x"]).name, blobs.put([b"y"]).name
    assert set(blobs.names()) == {first, second}
    assert list(blobs.names(idle=1000)) == []
    assert blobs.clear(idle=0) == 0
    blobs.delete(first)
    assert list(blobs.names()) == [second]


def test_too_much_or_a_broken_stream_leaves_nothing(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")

    def breaking() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the client vanished")

    assert blobs.put([b"x" * 10], limit=10).size == 10
    with pytest.raises(TooLargeError):
        blobs.put([b"x" * 6, b"x" * 5], limit=10)
    with pytest.raises(RuntimeError, match="vanished"):
        blobs.put(breaking())
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("name", ["", ".", "../secret", "/etc/passwd", "a" * 31, "a" * 33, "a/" * 16, "a\x00" * 16])
def test_no_name_leads_out_of_the_folder(blobs: Blobs, name: str) -> None:
    with pytest.raises(MissingError):
        blobs.open(name)


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "blobs").touch()
    with pytest.raises(OutputError):
        FolderBlobs(tmp_path / "blobs").put([b"x"])
