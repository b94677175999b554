"""Models, permissions, results and our own extras over HTTP; and what is answered when something breaks."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert

from serving import OTHER, House, error
from tunesmith.governance import audit
from tunesmith.governance.keys import DEFAULT_PROJECT
from tunesmith.store.blobs import FolderBlobs
from tunesmith.store.tables import files, models

TUNED = "ft:bundled/tunesmith-8m:personal:mine:abcdefgh"
CHECKPOINT = "ft:bundled/tunesmith-8m:personal:mine:zyxwvuts:ckpt-step-3"


def _tuned(house: House) -> str:
    """A job with a run's folder, its model and a checkpoint, as a worker leaves them; the job's id."""
    job = str(house.job().json()["id"])
    run = house.services.settings.home / "jobs" / job / "run-4"
    for folder in ("adapter", "checkpoints/step-3"):
        (run / folder).mkdir(parents=True)
        (run / folder / "adapter_config.json").write_text(f'{{"of": "{folder}"}}', "utf-8")
    (run / "report.html").write_text("<script>alert(1)</script>", "utf-8")
    (run / "evaluation.json").write_text('{"metrics": []}', "utf-8")
    with house.services.store.writing() as connection:
        for name, kind, weights in ((TUNED, "final", "adapter"), (CHECKPOINT, "checkpoint", "checkpoints/step-3")):
            connection.execute(
                insert(models).values(
                    name=name, project_id=DEFAULT_PROJECT, job_id=job, kind=kind, step=3, base="bundled/tunesmith-8m",
                    run=f"jobs/{job}/run-4", weights=weights, created_at=1_800_000_000.0,
                )
            )  # fmt: skip
    return job


def _names(house: House, key: str) -> set[str]:
    return {model["id"] for model in house.ask("GET", "/v1/models", key).json()["data"]}


# models and permissions


def test_tuned_models_are_listed_found_by_their_name_and_deleted(house: House) -> None:
    job = _tuned(house)
    assert _names(house, "infer") == {"bundled/tunesmith-8m", TUNED, CHECKPOINT}
    assert _names(house, "other") == {"bundled/tunesmith-8m"}
    quoted = TUNED.replace("/", "%2F")  # as the official client sends it
    assert house.ask("GET", f"/v1/models/{quoted}").json()["id"] == TUNED
    assert house.ask("GET", f"/v1/models/{quoted}", "other").status_code == 404
    assert error(house.job("other", model=TUNED))["code"] == "model_not_available"
    assert house.ask("DELETE", f"/v1/models/{TUNED}", "other").status_code == 404
    assert house.ask("DELETE", f"/v1/models/{quoted}").json() == {"id": TUNED, "object": "model", "deleted": True}
    run = house.services.settings.home / "jobs" / job / "run-4"
    assert (not (run / "adapter").exists(), (run / "checkpoints/step-3").exists()) == (True, True)
    assert house.ask("GET", f"/v1/models/{TUNED}").status_code == 404


def test_a_base_stays_and_a_model_that_a_job_starts_from(house: House) -> None:
    _tuned(house)
    answer = house.ask("DELETE", "/v1/models/bundled/tunesmith-8m")
    assert (answer.status_code, error(answer)["code"]) == (403, "model_not_deletable")
    assert house.job(model=TUNED).json()["model"] == TUNED
    answer = house.ask("DELETE", f"/v1/models/{TUNED}")
    assert (answer.status_code, error(answer)["code"]) == (409, "model_in_use")


def test_aliases_stand_for_bases(tmp_path: Path) -> None:
    with House.open(tmp_path / "aliased", aliases={"gpt-4o-mini": "bundled/tunesmith-8m", "own": "./base"}) as house:
        job = house.job(model="gpt-4o-mini").json()
        kept = house.services.queue.get(DEFAULT_PROJECT, job["id"])
        assert (job["model"], kept.model, kept.base) == ("gpt-4o-mini", "gpt-4o-mini", "bundled/tunesmith-8m")
        assert house.services.models.resolve(OTHER, "own").base == str(tmp_path / "aliased" / "base")


def test_permissions_let_another_project_ask_a_checkpoint(house: House) -> None:
    _tuned(house)
    url = f"/v1/fine_tuning/checkpoints/{CHECKPOINT.replace('/', '%2F')}/permissions"
    assert house.ask("POST", url, json={"project_ids": [OTHER, "proj_nope"]}).status_code == 400
    assert house.ask("GET", url).json()["data"] == []  # all or none
    made = house.ask("POST", url, json={"project_ids": [OTHER, OTHER]}).json()
    assert [one["project_id"] for one in made["data"]] == [OTHER]
    assert house.ask("POST", url, json={"project_ids": [OTHER]}).json()["data"] == made["data"]
    assert _names(house, "other") == {"bundled/tunesmith-8m", CHECKPOINT}
    assert house.ask("POST", url, "other", json={"project_ids": [OTHER]}).status_code == 404  # asked, not owned
    assert house.ask("GET", f"{url}?project_id=proj_x").json()["data"] == []
    assert house.ask("GET", f"{url}?order=sideways").status_code == 400
    id = made["data"][0]["id"]
    assert house.ask("DELETE", f"{url}/{id}").json() == {
        "id": id, "object": "checkpoint.permission", "deleted": True,
    }  # fmt: skip
    assert house.ask("DELETE", f"{url}/{id}").status_code == 404
    assert _names(house, "other") == {"bundled/tunesmith-8m"}


# results and our own


@pytest.mark.parametrize("form", ["base64", "plain"])
def test_results_are_sent_as_the_operator_says(tmp_path: Path, form: str) -> None:
    csv = b"step,train_loss\n1,0.5\n2,0.25\n"
    with House.open(tmp_path / "results", result_csv=form) as house:
        blob = house.services.store.blobs.put([csv])
        with house.services.store.writing() as connection:
            connection.execute(
                insert(files).values(
                    id="file-results", project_id=DEFAULT_PROJECT, filename="step_metrics.csv", bytes=len(csv),
                    purpose="fine-tune-results", created_at=1.0, status="processed", blob=blob.name, sha256=blob.sha256,
                )
            )  # fmt: skip
        answer = house.ask("GET", "/v1/files/file-results/content", headers={"accept": "application/binary"})
        assert answer.content == (base64.b64encode(csv) if form == "base64" else csv)
        assert house.ask("GET", "/v1/files/file-results").json()["bytes"] == len(answer.content)


def test_reports_and_evaluations_of_a_job(house: House) -> None:
    unbegun = house.job().json()["id"]
    answer = house.ask("GET", f"/v1/tunesmith/jobs/{unbegun}/report")
    assert (answer.status_code, error(answer)["code"]) == (404, "not_there_yet")
    job = _tuned(house)
    page = house.ask("GET", f"/v1/tunesmith/jobs/{job}/report")
    assert page.text == "<script>alert(1)</script>"
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert house.ask("GET", f"/v1/tunesmith/jobs/{job}/evaluation").json() == {
        "job_id": job, "verdict": None, "evaluation": {"metrics": []},
    }  # fmt: skip
    assert house.ask("GET", f"/v1/tunesmith/jobs/{job}/predictions").status_code == 404
    assert house.ask("GET", f"/v1/tunesmith/jobs/{job}/report", "other").status_code == 404
    assert house.ask("GET", f"/v1/tunesmith/comparisons?job={job}&other={job}").status_code == 400
    assert house.ask("GET", "/v1/tunesmith/comparisons").status_code == 400


def test_weights_are_exported_as_a_file(house: House) -> None:
    _tuned(house)
    made = house.ask("POST", "/v1/tunesmith/exports", json={"model": CHECKPOINT}).json()
    content = house.ask("GET", f"/v1/files/{made['file']['id']}/content").content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = tar.extractfile("./adapter_config.json")
        assert member is not None
        assert json.load(member) == {"of": "checkpoints/step-3"}
    for body, status in (
        ({"model": "bundled/tunesmith-8m"}, 400),
        ({"model": "nope"}, 404),
        ({"model": CHECKPOINT, "to": "merged"}, 400),
        ({"model": TUNED, "to": "merged"}, 400),  # nothing of a real run is there
        ({"model": TUNED, "to": "/tmp"}, 400),
    ):
        answer = house.ask("POST", "/v1/tunesmith/exports", json=body)
        assert answer.status_code == status
        error(answer)
    assert not list(house.services.settings.home.glob(".export-*"))


# what is noted


def test_changes_and_reads_of_data_are_in_the_audit_log(house: House) -> None:
    job = _tuned(house)
    file = house.ask("GET", f"/v1/fine_tuning/jobs/{job}").json()["training_file"]
    house.ask("GET", f"/v1/files/{file}/content", "read")
    house.ask("GET", f"/v1/tunesmith/jobs/{job}/report")
    house.ask("POST", f"/v1/fine_tuning/jobs/{job}/cancel")
    house.ask("DELETE", f"/v1/files/{file}")
    noted = [(entry.action, entry.target) for entry in audit.entries(house.services.store, limit=10_000)]
    assert [entry for entry in noted if not entry[0].startswith(("key.", "project."))] == [
        ("file.created", file), ("job.created", job), ("file.read", file), ("report.read", job), ("job.cancel", job),
        ("file.deleted", file),
    ]  # fmt: skip
    assert audit.verify(house.services.store).bad is None


def test_files_expire(house: House) -> None:
    file = house.upload(**{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}).json()
    assert file["expires_at"] == file["created_at"] + 3600
    clock = house.services.store.now
    house.services.store.now = lambda connection: clock(connection) + 3601  # type: ignore[method-assign]
    assert house.ask("GET", f"/v1/files/{file['id']}").status_code == 404
    assert house.ask("GET", "/v1/files").json()["data"] == []
    house.services.tidy()
    assert house.blobs() == 0


# what breaks


def test_a_fault_of_ours_is_told_without_its_cause(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(house.services.queue, "list", broken)
    answer = house.ask("GET", "/v1/fine_tuning/jobs")
    assert (answer.status_code, error(answer)["type"]) == (500, "server_error")
    assert "swordfish" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert house.ask("GET", "/v1/files").status_code == 200


def test_without_the_database_it_says_so(house: House) -> None:
    engine = house.services.store.engine
    house.services.store.engine = create_engine("sqlite:////nowhere/at/all.db")
    for path in ("/ready", "/v1/files"):
        answer = house.ask("GET", path)
        assert (answer.status_code, error(answer)["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "2"
    assert house.client.get("/health").status_code == 200
    house.services.store.engine = engine
    assert house.client.get("/ready").json() == {"status": "ready", "worker": False}


def test_a_full_disk_leaves_nothing_and_says_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    answer = house.upload()
    assert (answer.status_code, error(answer)["code"]) == (503, "no_room")
    monkeypatch.undo()
    assert house.blobs() == 0
    assert house.ask("GET", "/v1/files").json()["data"] == []


def test_too_many_uploads_at_once_are_told_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going, go = threading.Event(), threading.Event()
    put = FolderBlobs.put

    def slow(self: FolderBlobs, *arguments: Any, **options: Any) -> Any:
        going.set()
        go.wait(30)
        return put(self, *arguments, **options)

    with House.open(tmp_path / "busy", limits={"uploads_at_once": 1}) as house:
        monkeypatch.setattr(FolderBlobs, "put", slow)
        answers: list[Any] = []
        first = threading.Thread(target=lambda: answers.append(house.upload()))
        first.start()
        going.wait(30)
        refused = house.upload()
        go.set()
        first.join()
        assert (refused.status_code, error(refused)["code"]) == (429, "too_many_uploads")
        assert [answer.status_code for answer in answers] == [200]
        assert house.upload().status_code == 200


def test_counters_hold_no_names(house: House) -> None:
    _tuned(house)
    house.ask("GET", f"/v1/models/{TUNED}")
    house.ask("GET", "/v1/tell/me")
    text = house.ask("GET", "/metrics").text
    assert 'tunesmith_requests_total{method="GET",route="/v1/models/{model:path}",status="200"} 1.0' in text
    assert 'tunesmith_jobs{status="validating_files"} 1.0' in text
    assert "ft:" not in text
    assert "/v1/tell" not in text
