"""kill -9 around the commit of what a request makes: a repeat makes no second one, and no file is left for ever."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import killed
from records import database, identity, new_job, postgres
from serving import ROWS, House
from tunesmith.core.errors import OutputError
from tunesmith.jobs.queue import Queue
from tunesmith.server.records.repeats import Answer, LostClaimError, Repeats
from tunesmith.store import orphans
from tunesmith.store.blobs import FolderBlobs
from tunesmith.store.database import Store

KEY = {"idempotency-key": "once"}
FILE: dict[str, Any] = {"files": {"file": ("rows.jsonl", ROWS.decode())}, "data": {"purpose": "fine-tune"}}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = None if request.param == "sqlite" else database(request.getfixturevalue("server"))
    made = Store.open(url, tmp_path / "store")
    yield made
    made.close()


def _restarted(house: House) -> House:
    """What a server does that starts after one was killed."""
    house.services.begin()
    return house


@pytest.mark.parametrize("moment", ["before", "behind"])
def test_a_job_is_made_once(house: House, moment: str) -> None:
    body = {"model": "bundled/tunesmith-8m", "training_file": house.upload().json()["id"]}
    killed.ask(house, "jobs", moment, "POST", "/v1/fine_tuning/jobs", json=body, headers=KEY)
    made = [job["id"] for job in house.ask("GET", "/v1/fine_tuning/jobs").json()["data"]]
    assert len(made) == (moment == "behind")
    again = _restarted(house).ask("POST", "/v1/fine_tuning/jobs", json=body, headers=KEY)
    assert again.status_code == 200
    assert again.headers.get("idempotent-replayed") == ("true" if made else None)
    listed = house.ask("GET", "/v1/fine_tuning/jobs").json()["data"]
    assert [job["id"] for job in listed] == [again.json()["id"]]
    assert not made or made == [again.json()["id"]]
    assert again.json() == house.ask("GET", f"/v1/fine_tuning/jobs/{again.json()['id']}").json()


def test_a_retry_of_the_official_client_makes_no_second_job_either(house: House) -> None:
    body = {"model": "bundled/tunesmith-8m", "training_file": house.upload().json()["id"]}
    killed.ask(house, "jobs", "behind", "POST", "/v1/fine_tuning/jobs", json=body)
    retried = {"x-stainless-retry-count": "1"}
    again = _restarted(house).ask("POST", "/v1/fine_tuning/jobs", json=body, headers=retried)
    assert [job["id"] for job in house.ask("GET", "/v1/fine_tuning/jobs").json()["data"]] == [again.json()["id"]]


def test_a_file_is_made_once_and_what_lies_beside_it_is_swept(house: House) -> None:
    killed.ask(house, "files", "before", "POST", "/v1/files", headers=KEY, **FILE)
    assert house.blobs() == 1  # its bytes, and no row
    killed.ask(_restarted(house), "files", "behind", "POST", "/v1/files", headers=KEY, **FILE)
    again = _restarted(house).ask("POST", "/v1/files", headers=KEY, **FILE)
    assert again.headers["idempotent-replayed"] == "true"
    assert [file["id"] for file in house.ask("GET", "/v1/files").json()["data"]] == [again.json()["id"]]
    assert house.blobs() == 2
    house.services.sweep()
    assert house.blobs() == 2  # it may still be on its way to its row
    _age(house.services.settings.home)
    house.services.sweep()
    assert house.blobs() == 1
    assert house.ask("GET", f"/v1/files/{again.json()['id']}/content").content == ROWS


def test_a_part_is_there_once_and_waits_as_long_as_its_upload(house: House) -> None:
    body = {"filename": "rows.jsonl", "purpose": "fine-tune", "bytes": len(ROWS), "mime_type": "application/jsonl"}
    upload = house.ask("POST", "/v1/uploads", json=body).json()["id"]
    part: dict[str, Any] = {"files": {"data": ("part", ROWS.decode())}, "headers": KEY}
    killed.ask(house, "upload_parts", "behind", "POST", f"/v1/uploads/{upload}/parts", **part)
    again = _restarted(house).ask("POST", f"/v1/uploads/{upload}/parts", **part)
    assert again.headers["idempotent-replayed"] == "true"
    _age(house.services.settings.home)
    house.services.sweep()
    whole: dict[str, Any] = {"json": {"part_ids": [again.json()["id"]]}, "headers": {"idempotency-key": "whole"}}
    killed.ask(house, "files", "behind", "POST", f"/v1/uploads/{upload}/complete", **whole)
    done = _restarted(house).ask("POST", f"/v1/uploads/{upload}/complete", **whole)
    assert done.headers["idempotent-replayed"] == "true"
    assert done.json()["status"] == "completed"
    assert [file["id"] for file in house.ask("GET", "/v1/files").json()["data"]] == [done.json()["file"]["id"]]
    assert house.blobs() == 2  # the part's own bytes: the server was killed before it removed them
    _age(house.services.settings.home)
    house.services.sweep()
    assert house.ask("GET", f"/v1/files/{done.json()['file']['id']}/content").content == ROWS
    assert house.blobs() == 1


def test_who_lost_its_claim_makes_nothing(store: Store) -> None:
    queue, who, repeats = Queue(store), identity(store), Repeats(store)

    def submit(claim: Any, text: str) -> None:
        answer = Answer(200, text, "application/json")
        queue.submit(new_job(who), lambda connection, _: repeats.keep(connection, "p", "k", claim, answer))

    slow = repeats.claim("p", "k", "/r", "d")
    repeats.abandon()
    quick = repeats.claim("p", "k", "/r", "d")
    assert slow.mine
    assert quick.mine
    with pytest.raises(LostClaimError):
        submit(slow, "slow")
    submit(quick, "quick")
    with pytest.raises(LostClaimError):
        submit(slow, "slow")
    assert len(queue.list(who.project_id).data) == 1
    assert repeats.claim("p", "k", "/r", "d").answer == Answer(200, "quick", "application/json")


def test_sweeping_takes_what_is_old_and_nobodys(store: Store) -> None:
    assert orphans.sweep(store) == orphans.Swept()  # and the folder is marked
    name = store.blobs.put([b"x"]).name
    folder = store.folder / "blobs" / name[:2]
    (folder / f".{name}.0a1b2c3d.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_bytes(b"not ours to remove")
    assert orphans.sweep(store) == orphans.Swept()
    _age(store.folder)
    assert orphans.sweep(store) == orphans.Swept(blobs=1, unfinished=1)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_another_databases_files_are_left_alone(store: Store, tmp_path: Path) -> None:
    """As when a server is pointed at an empty database and back."""
    store.blobs.put([b"x"])
    _age(store.folder)
    other = Store.open(f"sqlite:///{tmp_path / 'other.db'}", store.folder)
    assert orphans.sweep(other).foreign  # unmarked, and nothing in it is its own
    assert len(list(store.blobs.names())) == 1
    assert not (store.folder / orphans.MARK).exists()
    assert isinstance(store.blobs, FolderBlobs)
    other.close()


def test_a_mark_is_believed(store: Store, tmp_path: Path) -> None:
    orphans.sweep(store)
    other = Store.open(f"sqlite:///{tmp_path / 'other.db'}", store.folder)
    assert orphans.sweep(other).foreign
    other.close()


def test_a_half_made_export_goes_when_a_server_starts(house: House) -> None:
    scratch = house.services.settings.home / ".export-abc"
    (scratch / "model").mkdir(parents=True)
    _restarted(house)
    assert not scratch.exists()


def test_a_server_that_cannot_write_answers_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(store: Store) -> bool:
        raise OutputError("cannot write", why="the disk is full")

    monkeypatch.setattr(orphans, "mark", full)
    with House.open(tmp_path / "home") as house:
        assert house.ask("GET", "/v1/files").status_code == 200


def _age(home: Path) -> None:
    """Everything among the blobs is two days old."""
    past = time.time() - 2 * 86_400
    for path in (home / "blobs").rglob("*"):
        os.utime(path, (past, past))


def test_the_answer_of_a_seal_is_the_routes(house: House) -> None:
    """What is kept for a repeat is, word for word, what was told."""
    file = house.upload().json()["id"]
    body = {"model": "bundled/tunesmith-8m", "training_file": file, "metadata": {"a": "ü"}}
    first, again = (house.ask("POST", "/v1/fine_tuning/jobs", json=body, headers=KEY) for _ in range(2))
    assert first.content == again.content
    assert json.loads(first.content)["metadata"] == {"a": "ü"}
    assert first.headers["content-type"] == again.headers["content-type"] == "application/json"
