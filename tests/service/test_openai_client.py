"""The official client against `tunesmith serve` in a process of its own, from the first file to the last reply."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

import tiny
from serving import ROWS, Serve, end_all

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning:openai")
ALIAS = "gpt-4o-mini-2024-07-18"
ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server with a worker, whose alias stands for a tiny base."""
    folder = tmp_path_factory.mktemp("served")
    base = tiny.base_folder(folder / "base")
    home = folder / "home"
    home.mkdir()
    (home / "server.yaml").write_text(json.dumps({"aliases": {ALIAS: str(base)}}), "utf-8")
    running = Serve.start(home)
    yield running
    running.stop()
    end_all(home)


@pytest.fixture(scope="module")
def client(server: Serve) -> Iterator[openai.OpenAI]:
    """The client, told a base URL and a key and nothing else."""
    with openai.OpenAI(base_url=server.url, api_key=server.first_key, http_client=_direct()) as made:
        yield made


def _direct() -> Any:
    return openai.DefaultHttpxClient(trust_env=False)


def _rows(kind: str, count: int = 24) -> bytes:
    rows = []
    for row in tiny.rows(0, count):
        user, answer = row["messages"]
        if kind == "dpo":
            other = {"role": "assistant", "content": "nothing"}
            rows.append({"input": {"messages": [user]}, "preferred_output": [answer], "non_preferred_output": [other]})
        else:
            rows.append({"messages": [user, answer]})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _upload(client: openai.OpenAI, content: bytes = ROWS) -> str:
    file = client.files.create(file=content, purpose="fine-tune")
    assert client.files.wait_for_processing(file.id, poll_interval=0.1).status == "processed"
    return file.id


def _wait(client: openai.OpenAI, job: str, status: tuple[str, ...] = ENDED, patience: float = 240) -> Any:
    until = time.monotonic() + patience
    while (found := client.fine_tuning.jobs.retrieve(job)).status not in status:
        assert time.monotonic() < until, (found, [e.message for e in client.fine_tuning.jobs.list_events(job)])
        time.sleep(0.2)
    return found


def _live(client: openai.OpenAI, model: str, kind: str, rows: bytes) -> Any:
    """The whole life of a job, as scripts for the hosted API go through it."""
    method: Any = {"type": kind, kind: {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}}
    job = client.fine_tuning.jobs.create(
        model=model, training_file=_upload(client, rows), validation_file=_upload(client, _head(rows)),
        suffix="my-suffix", seed=7, method=method, metadata={"kind": kind},
    )  # fmt: skip
    assert job.status in ("validating_files", "queued")
    done = _wait(client, job.id)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    messages = [event.message for event in reversed(events)]
    assert done.status == "succeeded", (done, messages)
    assert len({event.id for event in events}) == len(events)
    assert messages[0] == f"Created fine-tuning job: {job.id}"
    assert "Files validated, moving job to queued state" in messages
    assert f"New fine-tuned model created: {done.fine_tuned_model}" in messages
    assert "The job has successfully completed" in messages[-1]
    steps = [event for event in events if event.type == "metrics"]
    assert {int(event.data["step"]) for event in steps} == set(range(1, int(steps[0].data["total_steps"]) + 1))
    assert done.fine_tuned_model.startswith(f"ft:{model}:personal:my-suffix:")
    assert (done.seed, done.metadata, done.trained_tokens > 0) == (7, {"kind": kind}, True)
    assert getattr(done.method, kind).hyperparameters.n_epochs == 2
    assert getattr(done.method, kind).hyperparameters.learning_rate_multiplier != "auto"
    return done


def _head(rows: bytes) -> bytes:
    lines = rows.splitlines(keepends=True)
    return b"".join(lines[: len(lines) // 2])


def _check_results(client: openai.OpenAI, done: Any) -> None:
    """The result file as a script for the hosted API reads it."""
    (result,) = done.result_files
    content = client.files.content(result).read()
    assert client.files.retrieve(result).purpose == "fine-tune-results"
    assert client.files.retrieve(result).bytes == len(content)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(content, validate=True).decode())))
    assert list(rows[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert float(rows[0]["train_loss"]) > 0


def _check_checkpoints(client: openai.OpenAI, done: Any) -> None:
    found = list(client.fine_tuning.jobs.checkpoints.list(done.id, limit=1))
    assert found[0].fine_tuned_model_checkpoint == done.fine_tuned_model
    assert len({c.id for c in found}) == len(found) == 2
    assert found[1].fine_tuned_model_checkpoint.endswith(f":ckpt-step-{found[1].step_number}")
    names = {model.id for model in client.models.list()}
    assert {c.fine_tuned_model_checkpoint for c in found} <= names
    assert client.models.retrieve(found[1].fine_tuned_model_checkpoint).owned_by == "personal"


def test_a_supervised_job_lives_from_file_to_model(client: openai.OpenAI) -> None:
    done = _live(client, ALIAS, "supervised", _rows("supervised"))
    _check_results(client, done)
    _check_checkpoints(client, done)
    assert client.models.delete(done.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError, match="does not exist or you do not have access"):
        client.models.retrieve(done.fine_tuned_model)


@pytest.mark.slow
def test_a_dpo_job_lives_from_file_to_model(client: openai.OpenAI) -> None:
    done = _live(client, ALIAS, "dpo", _rows("dpo"))
    assert done.hyperparameters.model_dump(exclude_none=True) == {}
    _check_results(client, done)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["supervised", "dpo"])
def test_jobs_on_the_bundled_base(client: openai.OpenAI, kind: str) -> None:
    done = _live(client, "bundled/tunesmith-8m", kind, _rows(kind, 60))
    _check_results(client, done)
    _check_checkpoints(client, done)


def test_wrong_data_fail_the_job_and_not_the_call(client: openai.OpenAI) -> None:
    cases: list[tuple[bytes, str, str, str]] = [
        (b"".join(ROWS.splitlines(keepends=True)[:7]), "supervised", "invalid_n_examples",
         "Training file has 7 example(s), but must have at least 10 examples"),
        (b'{"a": 1}\n' * 12, "supervised", "invalid_training_file",
         "The job failed due to an invalid training file. Unexpected file format, expected either prompt/completion "
         "pairs or chat messages."),
        (ROWS, "dpo", "invalid_training_file",
         "is in the fine-tune-chat format, but the specified fine-tuning job is not using 'supervised' as the training "
         "method (provided method=dpo)."),
    ]  # fmt: skip
    for rows, kind, code, says in cases:
        method: Any = {"type": kind}
        job = client.fine_tuning.jobs.create(model=ALIAS, training_file=_upload(client, rows), method=method)
        done = _wait(client, job.id, patience=60)
        assert done.status == "failed"
        assert done.error is not None
        assert (done.error.code, done.error.param) == (code, "training_file")
        assert says in done.error.message
        assert done.finished_at is not None
        assert done.fine_tuned_model is None


def test_pages_end_to_end(client: openai.OpenAI) -> None:
    mine = [_upload(client) for _ in range(5)]
    listed = [file.id for file in client.files.list(limit=2, purpose="fine-tune")]
    assert listed[:5] == mine[::-1]
    assert len(set(listed)) == len(listed)
    assert [file.id for file in client.files.list(limit=2, order="asc")][-5:] == mine
    first = client.files.list(limit=2)
    assert (first.has_more, first.data[-1].id) == (True, mine[3])
    for file in client.files.list(limit=2):  # deleting what is listed does not end the list
        if file.id in mine:
            client.files.delete(file.id)
    assert not set(mine) & {file.id for file in client.files.list()}


def test_jobs_by_their_metadata(client: openai.OpenAI, server: Serve) -> None:
    file = _upload(client)
    ids = [
        client.fine_tuning.jobs.create(model=ALIAS, training_file=file, metadata=m).id  # type: ignore[arg-type]
        for m in ({"a": "1"}, {"a": "1", "b": "2"}, {"a": "2"}, None)
    ]
    for id in ids:
        client.fine_tuning.jobs.cancel(id)
    wanted: list[tuple[Any, list[str]]] = [
        ({"a": "1"}, ids[1::-1]), ({"a": "1", "b": "2"}, [ids[1]]), ({"a": "3"}, []),
    ]  # fmt: skip
    for metadata, expected in wanted:
        assert [job.id for job in client.fine_tuning.jobs.list(limit=1, metadata=metadata)] == expected
    without = httpx2.get(
        f"{server.url}/fine_tuning/jobs?metadata=null", headers={"authorization": f"Bearer {server.first_key}"},
        trust_env=False,
    ).json()  # fmt: skip
    found = [job["id"] for job in without["data"]]
    assert ids[3] in found
    assert not set(ids[:3]) & set(found)


def test_cancel_pause_and_resume(client: openai.OpenAI, server: Serve) -> None:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": 1}}}
    job = client.fine_tuning.jobs.create(
        model=ALIAS, training_file=_upload(client, _rows("supervised", 60)), method=method
    )
    _wait(client, job.id, ("running",))
    while not any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job.id)):
        time.sleep(0.1)
    assert client.fine_tuning.jobs.pause(job.id).status in ("pausing", "paused")
    paused = _wait(client, job.id, ("paused", *ENDED), 60)
    assert paused.status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    _wait(client, job.id, ("running",), 60)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="has already completed"):
        client.fine_tuning.jobs.cancel(job.id)


def test_every_class_of_error(client: openai.OpenAI, server: Serve) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.fine_tuning.jobs.retrieve("ftjob-X")
    assert (missing.value.code, missing.value.param) == ("fine_tune_not_found", "fine_tune_id")
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError, match="Expected file to have JSONL format") as wrong:
        client.files.create(file=b"no json", purpose="fine-tune")
    assert wrong.value.type == "invalid_request_error"
    with pytest.raises(openai.AuthenticationError) as unknown:
        client.with_options(api_key="sk-wrong-key-of-another-service").files.list()
    assert unknown.value.code == "invalid_api_key"
    from tunesmith.governance.keys import Keys
    from tunesmith.store.database import Store

    store = Store.open(None, server.home)
    reader, _ = Keys(store).create(name="reader", scopes=["read"])
    store.close()
    with pytest.raises(openai.PermissionDeniedError) as closed:
        client.with_options(api_key=reader).files.create(file=ROWS, purpose="fine-tune")
    assert closed.value.code == "missing_scope"
    once = client.with_options(max_retries=0, default_headers={"Idempotency-Key": "one"}).uploads
    once.create(filename="a", bytes=3, mime_type="text/plain", purpose="batch")
    with pytest.raises(openai.ConflictError) as conflict:
        once.create(filename="a", bytes=3, mime_type="text/plain", purpose="vision")
    assert conflict.value.code == "idempotency_key_reused"


def test_too_many_requests_are_told_in_headers(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "server.yaml").write_text("limits: {requests_per_minute: 3}", "utf-8")
    running = Serve.start(home, "--no-worker")
    try:
        with openai.OpenAI(
            base_url=running.url, api_key=running.first_key, http_client=_direct(), max_retries=0
        ) as client:
            raw = client.models.with_raw_response.list()
            assert raw.headers["x-ratelimit-limit-requests"] == "3"
            assert raw.headers["x-ratelimit-remaining-requests"] == "2"
            client.models.list()
            client.models.list()
            with pytest.raises(openai.RateLimitError) as limited:
                client.models.list()
        assert limited.value.code == "rate_limit_exceeded"
        assert 0 < int(limited.value.response.headers["retry-after-ms"]) <= 20_001
    finally:
        assert running.stop() == 0


def test_an_upload_in_parts(client: openai.OpenAI, tmp_path: Path) -> None:
    content = ROWS * 40
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type="application/jsonl", purpose="fine-tune", part_size=1_000
    )
    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.bytes, done.file.filename) == (len(content), "rows.jsonl")
    assert client.files.content(done.file.id).read() == content
