"""API keys, and the audit log that finds what was done to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert, select, text, update

from records import Clock
from tunesmith.core.errors import ConflictError, MissingError, UsageError
from tunesmith.governance import audit
from tunesmith.governance.keys import SCOPES, BadKeyError, Keys
from tunesmith.store.database import Store
from tunesmith.store.tables import api_keys, audit_head
from tunesmith.store.tables import audit as entries


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    return Store.open(folder=tmp_path, clock=clock)


def test_the_first_key_has_every_scope_and_is_made_once(store: Store) -> None:
    keys = Keys(store)
    key = keys.first("acme")
    assert key is not None
    who = keys.authenticate(key)
    assert (who.scopes, who.organization, who.project_id) == (frozenset(SCOPES), "acme", "proj_default")
    assert keys.first() is None


def test_a_key_begins_with_ts_and_its_secret_is_stored_nowhere(store: Store, tmp_path: Path) -> None:
    key = Keys(store).first()
    assert key is not None
    assert key.startswith("ts-")
    store.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert key[3:11].encode() in everything
    assert key[11:].encode() not in everything


def test_only_the_key_itself_opens(store: Store, clock: Clock) -> None:
    keys = Keys(store)
    keys.first()
    key, kept = keys.create(name="short", scopes=["read"], expires_at=clock.at + 60)
    assert keys.authenticate(key).scopes == {"read"}
    assert not keys.authenticate(key).may("train")
    other = keys.create(name="other")[0]
    wrong = [key[:-1] + ("A" if key[-1] != "A" else "B"), key + "A", key[:-1], "", "ts-", key.replace("ts-", "sk-"),
             f"ts-{kept.id}{other[11:]}", " " + key]  # fmt: skip
    for no_key in wrong:
        with pytest.raises(BadKeyError):
            keys.authenticate(no_key)
    clock.wait(59)
    keys.authenticate(key)
    clock.wait(1)
    with pytest.raises(BadKeyError):
        keys.authenticate(key)


def test_a_revoked_key_opens_nothing_and_one_of_another_project_cannot_be_revoked(store: Store) -> None:
    keys = Keys(store)
    keys.first()
    keys.add_project("proj_b", "b", "b")
    key, kept = keys.create(name="b", project_id="proj_b")
    with pytest.raises(MissingError):
        keys.revoke(kept.id, project_id="proj_default")
    keys.authenticate(key)
    assert keys.revoke(kept.id, project_id="proj_b").revoked_at is not None
    with pytest.raises(BadKeyError):
        keys.authenticate(key)
    with pytest.raises(MissingError):
        keys.revoke("nothing0")


def test_when_a_key_was_used_is_known_to_a_minute(store: Store, clock: Clock) -> None:
    keys = Keys(store)
    key = keys.first()
    assert key is not None
    assert keys.list()[0].last_used_at is None
    keys.authenticate(key)
    used = clock.at
    clock.wait(59)
    keys.authenticate(key)
    assert keys.list()[0].last_used_at == used
    clock.wait(2)
    keys.authenticate(key)
    assert keys.list()[0].last_used_at == clock.at


def test_what_no_key_can_be_is_refused(store: Store) -> None:
    keys = Keys(store)
    keys.first()
    with pytest.raises(UsageError, match="unknown scope") as told:
        keys.create(name="x", scopes=["trian"])
    assert "train" in str(told.value.mend)
    with pytest.raises(UsageError):
        keys.create(name="x", scopes=[])
    with pytest.raises(MissingError):
        keys.create(name="x", project_id="nowhere")
    with pytest.raises(ConflictError):
        keys.add_project("proj_default", "again", "x")
    with store.reading() as connection:
        assert len(connection.execute(select(api_keys)).all()) == 1


# the audit log


@pytest.fixture
def chain(store: Store) -> Store:
    for number in range(1, 8):
        audit.append(store, actor="key:a", project_id="p", action="job.created", target=f"job-{number}",
                     detail={"step": number, "text": "Grüße \u2028"})  # fmt: skip
    return store


def test_an_untouched_log_is_whole(chain: Store) -> None:
    found = audit.verify(chain)
    assert (found.entries, found.bad) == (7, None)
    listed = audit.entries(chain, after=2, limit=3)
    assert [entry.number for entry in listed] == [3, 4, 5]
    assert listed[0].detail == {"step": 3, "text": "Grüße \u2028"}
    assert audit.entries(chain, project_id="q") == []


def _row(connection: Connection, number: int) -> dict[str, object]:
    return dict(connection.execute(select(entries).where(entries.c.number == number)).one()._mapping)


def _swap(connection: Connection) -> None:
    a, b = _row(connection, 3), _row(connection, 4)
    connection.execute(delete(entries).where(entries.c.number.in_((3, 4))))
    connection.execute(insert(entries), [a | {"number": 4}, b | {"number": 3}])


def _insert_between(connection: Connection) -> None:
    copied = _row(connection, 3)
    for number in (7, 6, 5, 4):
        connection.execute(update(entries).where(entries.c.number == number).values(number=number + 1))
    connection.execute(insert(entries).values(**copied | {"number": 4}))
    connection.execute(update(audit_head).values(number=8))


def _delete_and_close_up(connection: Connection) -> None:
    connection.execute(delete(entries).where(entries.c.number == 3))
    for number in (4, 5, 6, 7):
        connection.execute(update(entries).where(entries.c.number == number).values(number=number - 1))
    connection.execute(update(audit_head).values(number=6))


def _set(number: int, **values: object) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(update(entries).where(entries.c.number == number).values(**values))


@pytest.mark.parametrize(
    ("change", "bad"),
    [
        (_set(1, actor="key:b"), 1),
        (_set(3, at=1.0), 3),
        (_set(3, project_id=None), 3),
        (_set(4, action="job.cancelled"), 4),
        (_set(4, target="job-5"), 4),
        (_set(5, detail=json.dumps({"step": 6})), 5),
        (_set(7, hash="0" * 64), 7),
        (_swap, 3),
        (_insert_between, 4),
        (_delete_and_close_up, 3),
        (lambda c: c.execute(delete(entries).where(entries.c.number == 1)), 1),
        (lambda c: c.execute(delete(entries).where(entries.c.number == 4)), 4),
        (lambda c: c.execute(delete(entries).where(entries.c.number > 5)), 6),
        (lambda c: c.execute(delete(entries)), 1),
        (lambda c: c.execute(delete(audit_head)), 8),
        (lambda c: c.execute(text("UPDATE audit_head SET number = 6")), 8),
    ],
)
def test_every_change_is_found_at_the_first_bad_entry(
    chain: Store, change: Callable[[Connection], object], bad: int
) -> None:
    with chain.writing() as connection:
        change(connection)
    found = audit.verify(chain)
    assert found.bad == bad, found.why
    assert found.entries == bad - 1


def test_an_entry_is_there_exactly_when_what_it_tells_is(store: Store) -> None:
    def broken() -> None:
        with store.writing() as connection:
            audit.record(store, connection, actor="a", project_id=None, action="x", target="y", detail={})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert audit.entries(store) == []
    assert audit.verify(store).entries == 0


def test_a_log_longer_than_what_is_read_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_BATCH", 3)
    for number in range(10):
        audit.append(store, actor="a", project_id=None, action="x", target=str(number))
    assert audit.verify(store).entries == 10
