"""What is wrong is told with the documented status, type, param and code, and leaves nothing half-made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving import ROWS, House, error

INVALID = "invalid_request_error"
JSONL = "Expected file to have JSONL format, where every line is a valid JSON dictionary."


def _counts(house: House) -> tuple[int, int, int]:
    files = house.ask("GET", "/v1/files").json()["data"]
    jobs = house.ask("GET", "/v1/fine_tuning/jobs").json()["data"]
    return len(files), len(jobs), house.blobs()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The file is empty."),
        (b"not json\n", "Line 1 is not valid JSON"),
        (ROWS + b"[1, 2]\n", "Line 13 is not a dictionary"),
        (ROWS + b'{"a": 1', "Line 13 is not valid JSON"),
        (b'\xff\xfe{"a": 1}\n', "Line 1 is not valid JSON"),
        (b"prompt,completion\na,b\n", "Line 1 is not valid JSON"),
        (b"PAR1\x00\x00", "Line 1 is not valid JSON"),
    ],
)
def test_files_that_are_no_json_lines(house: House, content: bytes, says: str) -> None:
    answer = house.upload(content)
    told = error(answer)
    assert answer.status_code == 400
    assert told["message"].startswith(f"{JSONL} {says}")
    assert (told["type"], told["param"], told["code"]) == (INVALID, None, None)
    assert _counts(house) == (0, 0, 0)


def test_a_byte_order_mark_and_empty_lines_are_no_fault(house: House) -> None:
    assert house.upload(b"\xef\xbb\xbf" + ROWS + b"\n\n").status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"purpose": "fine-tunes"}, "purpose", "invalid_value"),
        ({"purpose": "fine-tune-results"}, "purpose", "invalid_value"),
        ({"expires_after[anchor]": "now"}, "expires_after.anchor", "invalid_value"),
        ({"expires_after[anchor]": "created_at"}, "expires_after.seconds", "invalid_value"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}, "expires_after.seconds",
         "invalid_value"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 5000}, "expires_after.seconds",
         "invalid_value"),
        ({"project_id": "proj_other"}, "project_id", "unknown_parameter"),
        ({"note": "x" * 70_000}, "note", "string_above_max_length"),
    ],
)  # fmt: skip
def test_wrong_fields_of_a_file(house: House, fields: dict[str, str], param: str, code: str) -> None:
    answer = house.upload(**fields)
    assert answer.status_code == 400
    assert (error(answer)["param"], error(answer)["code"]) == (param, code)
    assert _counts(house) == (0, 0, 0)


def test_missing_and_doubled_fields_of_a_file(house: House) -> None:
    file = ("file", ("a.jsonl", ROWS))
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"files": [file]}, "purpose", "missing_required_parameter"),
        ({"files": [("purpose", (None, "fine-tune"))]}, "file", "missing_required_parameter"),
        ({"files": [file, file], "data": {"purpose": "fine-tune"}}, "file", "duplicate_parameter"),
        ({"files": [("file", (None, "text"))], "data": {"purpose": "fine-tune"}}, "file", "invalid_type"),
    ]
    for options, param, code in cases:
        answer = house.ask("POST", "/v1/files", **options)
        assert answer.status_code == 400
        assert (error(answer)["param"], error(answer)["code"]) == (param, code)
    assert _counts(house) == (0, 0, 0)


def _form(house: House, body: bytes, kind: str = "multipart/form-data; boundary=xx") -> Any:
    return house.ask("POST", "/v1/files", content=body, headers={"content-type": kind})


def test_forms_that_are_none(house: House) -> None:
    head = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for body, kind in (
        (b"", "multipart/form-data; boundary=xx"),
        (b"nonsense", "multipart/form-data; boundary=xx"),
        (head + ROWS, "multipart/form-data; boundary=xx"),
        (head + ROWS + b"\r\n--xx", "multipart/form-data; boundary=xx"),
        (b"--xx\r\nX: y\r\n\r\nz\r\n--xx--\r\n", "multipart/form-data; boundary=xx"),
        (head + ROWS + b"\r\n--xx--\r\n", "multipart/form-data"),
        (head + ROWS + b"\r\n--xx--\r\n", "application/json"),
        (b"--xx\r\n" + b"X" * 9_000 + b": y\r\n\r\nz\r\n--xx--\r\n", "multipart/form-data; boundary=xx"),
        ((b'--xx\r\nContent-Disposition: form-data; name="%d"\r\n\r\nz\r\n' * 99 + b"--xx--\r\n"),
         "multipart/form-data; boundary=xx"),
    ):  # fmt: skip
        answer = _form(house, body, kind)
        assert answer.status_code == 400, (body[:80], answer.text)
        error(answer)
    assert _counts(house) == (0, 0, 0)


def test_a_name_of_a_file_is_a_text_and_no_path(house: House) -> None:
    for name in ("../../../../etc/passwd", "/etc/passwd", "a\\..\\b", "x" * 3_000, "\u00e4\u200b"):
        answer = house.ask("POST", "/v1/files", files={"file": (name, ROWS)}, data={"purpose": "fine-tune"})
        assert answer.status_code == 200
        assert len(answer.json()["filename"]) <= 1_024
    inside = {path for path in house.services.settings.home.parent.rglob("*") if "passwd" in path.name}
    assert inside == set()


def test_a_file_may_not_be_too_large(tmp_path: Any) -> None:
    with House.open(tmp_path / "small", limits={"file_bytes": 2_000, "project_bytes": 3_000}) as house:
        assert house.upload(ROWS[:0] + b'{"a": 1}\n' * 200).status_code == 200
        answer = house.upload(b'{"a": 1}\n' * 300)
        assert (answer.status_code, error(answer)["code"]) == (413, "content_too_large")
        answer = house.upload(b'{"a": 1}\n' * 200)
        assert (answer.status_code, error(answer)["code"]) == (400, "storage_quota_exceeded")
        assert _counts(house)[::2] == (1, 1)


VALID: dict[str, Any] = {"model": "bundled/tunesmith-8m"}


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"training_file": "file-nope"}, 404, "id", None),
        ({"validation_file": "file-nope"}, 404, "id", None),
        ({"model": "gpt-4o"}, 400, None, "model_not_available"),
        ({"model": "/etc"}, 400, None, "model_not_available"),
        ({"model": "ft:bundled/tunesmith-8m:x::y"}, 400, None, "model_not_available"),
        ({"model": ""}, 400, "model", "invalid_value"),
        ({"model": 7}, 400, "model", "invalid_type"),
        ({"model": "a\x00b"}, 400, "model", "invalid_value"),
        ({"model": None}, 400, "model", "invalid_type"),
        ({"suffix": ""}, 400, "suffix", "invalid_value"),
        ({"suffix": "x" * 65}, 400, "suffix", "invalid_value"),
        ({"seed": -1}, 400, "seed", "invalid_value"),
        ({"seed": 2**31}, 400, "seed", "invalid_value"),
        ({"seed": "3"}, 400, "seed", "invalid_type"),
        ({"seed": 1.5}, 400, "seed", "invalid_type"),
        ({"metadata": {str(i): "x" for i in range(17)}}, 400, "metadata", "invalid_value"),
        ({"metadata": {"k" * 65: "v"}}, 400, None, None),
        ({"metadata": {"k": "v" * 513}}, 400, "metadata.k", "invalid_value"),
        ({"metadata": {"k": 1}}, 400, "metadata.k", "invalid_type"),
        ({"integrations": [{"type": "mlflow"}]}, 400, "integrations[0].type", "invalid_value"),
        ({"hyperparameters": {"n_epochs": 0}}, 400, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"n_epochs": 51}}, 400, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"batch_size": 257}}, 400, "hyperparameters.batch_size", "invalid_value"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, 400, "hyperparameters.learning_rate_multiplier",
         "invalid_value"),
        ({"hyperparameters": {"n_epochs": "many"}}, 400, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"n_epochs": True}}, 400, "hyperparameters.n_epochs", "invalid_value"),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 2.5}}}}, 400,
         "method.dpo.hyperparameters.beta", "invalid_value"),
        ({"method": {"type": "sft"}}, 400, "method.type", "invalid_value"),
        ({"method": {}}, 400, "method.type", "missing_required_parameter"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "python"}}}}, 400, "method.type",
         "method_not_available"),
        ({"n_epochs": 3}, 400, "n_epochs", "unknown_parameter"),
        ({"project_id": "proj_other"}, 400, "project_id", "unknown_parameter"),
    ],
)  # fmt: skip
def test_wrong_jobs(house: House, change: dict[str, Any], status: int, param: str | None, code: str | None) -> None:
    file = house.upload().json()["id"]
    answer = house.ask("POST", "/v1/fine_tuning/jobs", json=VALID | {"training_file": file} | change)
    told = error(answer)
    assert (answer.status_code, told["type"]) == (status, INVALID), told
    if code is not None or status == 404:
        assert (told["param"], told["code"]) == (param, code)
    assert _counts(house) == (1, 0, 1)


def test_sentences_that_clients_know(house: House) -> None:
    file = house.upload().json()["id"]
    cases = [
        (house.ask("GET", "/v1/files/file-X"), 404, "No such File object: file-X", "id", None),
        (house.ask("DELETE", "/v1/files/file-X"), 404, "No such File object: file-X", "id", None),
        (house.ask("GET", "/v1/fine_tuning/jobs/ftjob-X"), 404, "Could not find fine tune: ftjob-X", "fine_tune_id",
         "fine_tune_not_found"),
        (house.ask("POST", "/v1/fine_tuning/jobs/ftjob-X/cancel"), 404, "Could not find fine tune: ftjob-X",
         "fine_tune_id", "fine_tune_not_found"),
        (house.ask("GET", "/v1/models/nope"), 404,
         "The model `nope` does not exist or you do not have access to it.", "model", "model_not_found"),
        (house.job(training_file=file, model="davinci"), 400,
         "Model davinci is not available for fine-tuning or does not exist.", None, "model_not_available"),
    ]  # fmt: skip
    for answer, status, message, param, code in cases:
        assert answer.status_code == status
        assert error(answer) == {"message": message, "type": INVALID, "param": param, "code": code}


def test_a_file_for_another_purpose_is_no_training_file(house: House) -> None:
    file = house.upload(purpose="assistants").json()["id"]
    answer = house.job(training_file=file)
    assert (answer.status_code, error(answer)["code"]) == (400, "invalid_file_purpose")
    assert error(answer)["param"] == "training_file"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model": "\\ud800"}', b"[" * 100_000, b'{"a": NaN}']
)
def test_bodies_that_are_no_json_objects(house: House, body: bytes) -> None:
    answer = house.ask("POST", "/v1/fine_tuning/jobs", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, error(answer)["type"]) == (400, INVALID)


def test_other_methods_paths_and_queries(house: House) -> None:
    for method, path, status in (
        ("PUT", "/v1/files", 405),
        ("GET", "/v1/nope", 404),
        ("GET", "/v1/files/", 404),
        ("GET", "/v1/files?limit=0", 400),
        ("GET", "/v1/files?limit=10001", 400),
        ("GET", "/v1/files?limit=ten", 400),
        ("GET", "/v1/files?order=up", 400),
        ("GET", "/v1/files?after=%00", 400),
        ("GET", "/v1/files/%00", 400),
        ("GET", "/v1/files/" + "x" * 300, 400),
        ("GET", "/v1/files/..%2F..%2Fetc%2Fpasswd", 404),
        ("GET", "/v1/fine_tuning/jobs?limit=-1", 400),
    ):
        answer = house.ask(method, path)
        assert answer.status_code == status, (path, answer.text)
        error(answer)


def test_a_body_may_not_be_too_long(house: House) -> None:
    long = json.dumps({"model": "x" * (17 * 2**20)}).encode()
    for path in ("/v1/fine_tuning/jobs", "/v1/uploads", "/health"):
        answer = house.ask("POST", path, content=long, headers={"content-type": "application/json"})
        assert (answer.status_code, error(answer)["code"]) == (413, "content_too_large")
    pieces = iter([b'{"model": "'] + [b"x" * 2**20] * 17)
    answer = house.ask("POST", "/v1/fine_tuning/jobs", content=pieces, headers={"content-type": "application/json"})
    assert (answer.status_code, error(answer)["code"]) == (413, "content_too_large")


def test_a_job_that_has_ended_cannot_be_moved(house: House) -> None:
    job = house.job().json()["id"]
    answer = house.ask("POST", f"/v1/fine_tuning/jobs/{job}/pause")
    assert (answer.status_code, error(answer)["code"]) == (400, "invalid_job_status")  # its files are being validated
    assert house.ask("POST", f"/v1/fine_tuning/jobs/{job}/cancel").json()["status"] == "cancelled"
    for action in ("cancel", "pause", "resume"):
        answer = house.ask("POST", f"/v1/fine_tuning/jobs/{job}/{action}")
        assert (answer.status_code, error(answer)["code"]) == (400, "invalid_job_status")


def test_a_file_that_is_just_validated_stays(house: House) -> None:
    job = house.job().json()
    answer = house.ask("DELETE", f"/v1/files/{job['training_file']}")
    assert (answer.status_code, error(answer)["code"]) == (409, "file_in_use")
    house.ask("POST", f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    assert house.ask("DELETE", f"/v1/files/{job['training_file']}").json()["deleted"] is True
    assert house.blobs() == 0


def test_too_many_unfinished_jobs(tmp_path: Any) -> None:
    with House.open(tmp_path / "few", limits={"unfinished_jobs": 2}) as house:
        file = house.upload().json()["id"]
        assert [house.job(training_file=file).status_code for _ in range(3)] == [200, 200, 429]
        answer = house.job(training_file=file)
        assert error(answer)["code"] == "too_many_jobs"
        assert answer.headers["retry-after"] == "30"
