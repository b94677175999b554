"""`tunesmith serve` as a process: where it listens, how it ends, and that its death is no trouble for jobs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import tiny
from serving import ROWS, Serve, end_all
from tunesmith.jobs.workers import Workers
from tunesmith.store.database import Store


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home with an alias for a tiny base; its worker is ended."""
    made = tmp_path / "home"
    made.mkdir()
    base = tiny.base_folder(tmp_path / "base")
    (made / "server.yaml").write_text(json.dumps({"aliases": {"small": str(base)}}), "utf-8")
    yield made
    end_all(made)


def _ask(server: Serve, method: str, path: str, **options: Any) -> Any:
    headers = {"authorization": f"Bearer {server.first_key}"} | options.pop("headers", {})
    return httpx2.request(method, f"{server.url}{path}", headers=headers, trust_env=False, timeout=30, **options)


def _workers(home: Path) -> list[int]:
    store = Store.open(None, home)
    alive = [worker.process.pid for worker in Workers(store).known() if worker.alive]
    store.close()
    return alive


def _until(holds: Any, patience: float = 60) -> Any:
    until = time.monotonic() + patience
    while not (found := holds()):
        assert time.monotonic() < until
        time.sleep(0.1)
    return found


def _job(server: Serve, rows: int, epochs: int) -> str:
    content = "".join(json.dumps({"messages": row["messages"]}) + "\n" for row in tiny.rows(0, rows)).encode()
    file = _ask(server, "POST", "/files", files={"file": ("a", content)}, data={"purpose": "fine-tune"}).json()
    body = {"model": "small", "training_file": file["id"], "hyperparameters": {"n_epochs": epochs, "batch_size": 1}}
    return str(_ask(server, "POST", "/fine_tuning/jobs", json=body).json()["id"])


def _steps(server: Serve, job: str) -> list[int]:
    """The steps that the job's events tell, in their order."""
    events, after = [], None
    while True:
        query = {"limit": "1000"} | ({"after": after} if after else {})
        page = _ask(server, "GET", f"/fine_tuning/jobs/{job}/events", params=query).json()
        events += page["data"]
        if not page["has_more"]:
            return [event["data"]["step"] for event in reversed(events) if event["type"] == "metrics"]
        after = page["data"][-1]["id"]


def test_it_prints_a_key_once_and_ends_as_it_is_told(home: Path) -> None:
    server = Serve.start(home, "--no-worker")
    assert server.first_key is not None
    assert server.first_key.startswith("ts-")
    assert _ask(server, "GET", "/models").status_code == 200
    second = _serve(home)
    assert (second.returncode, "another server serves" in second.stderr) == (6, True)
    assert server.stop() == 0
    again = Serve.start(home, "--no-worker")
    assert again.first_key == server.first_key  # the file of the test: none was printed
    again.process.send_signal(signal.SIGINT)
    assert again._gone(30) == 130


def _serve(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return tiny.tunesmith("serve", "--no-worker", "--port", "0", *arguments, TUNESMITH_HOME=str(home))


def test_other_addresses_are_refused(home: Path) -> None:
    refused = _serve(home, "--host", "0.0.0.0")
    assert refused.returncode == 5
    assert "--behind-proxy" in refused.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = _serve(home, "--port", str(taken.getsockname()[1]))
    assert busy.returncode == 6
    (home / "server.yaml").write_text("organisation: x", "utf-8")
    assert _serve(home).returncode == 3


def test_a_browser_from_another_page_is_kept_out(home: Path) -> None:
    server = Serve.start(home, "--no-worker")
    assert _ask(server, "GET", "/models", headers={"host": "rebound.example"}).status_code == 421
    assert _ask(server, "GET", "/models", headers={"origin": "https://rebound.example"}).status_code == 403
    server.stop()


def test_it_answers_over_tls(home: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    certificate, key = home / "c.pem", home / "k.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tunesmith", "serve", "--no-worker", "--host", "0.0.0.0", "--port", str(port),
         "--certificate", str(certificate), "--private-key", str(key)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TUNESMITH_HOME": str(home)},
    )  # fmt: skip
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.check_hostname = False
    try:
        with httpx2.Client(verify=trusting, trust_env=False) as client:
            _until(lambda: _healthy(client, f"https://127.0.0.1:{port}/health"))
    finally:
        process.terminate()
        process.wait(30)


def _healthy(client: Any, url: str) -> bool:
    try:
        return bool(client.get(url).json()["status"] == "ok")
    except httpx2.TransportError:
        return False


def test_it_listens_before_torch_is_loaded(home: Path) -> None:
    server = Serve.start(home, "--no-worker")
    assert _ask(server, "GET", "/models").status_code == 200
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" not in mapped
    server.stop()


def test_a_request_that_breaks_off_leaves_nothing(home: Path) -> None:
    server = Serve.start(home, "--no-worker")
    port = int(server.url.rpartition(":")[2].split("/")[0])
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.first_key}\r\n"
        "Content-Type: multipart/form-data; boundary=xx\r\nContent-Length: 100000\r\n\r\n"
    ).encode()
    part = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for body in (b"", part, part + ROWS, part + ROWS * 20 + b"\r\n--xx"):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head + body)
            time.sleep(0.1)
    assert _ask(server, "GET", "/files").json()["data"] == []
    _until(lambda: not [path for path in (home / "blobs").rglob("*") if path.is_file()])
    server.stop()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_jobs_do_not_notice_that_the_server_was_killed(home: Path) -> None:
    server = Serve.start(home)
    job = _job(server, 40, 12)
    _until(lambda: len(_steps(server, job)) > 5, 400)
    (worker,) = _workers(home)
    server.kill()
    again = Serve.start(home)
    assert _workers(home) == [worker]  # adopted: no other was started
    assert "at work already" in again.log.read_text()
    again.kill()  # and once more in the middle
    last = Serve.start(home)
    found = _until(lambda: _ended(last, job), 400)
    assert found["status"] == "succeeded", found
    total = _steps(last, job)
    assert total == list(range(1, len(total) + 1))  # each step told once, none missing
    assert last.stop() == 0
    _until(lambda: not _workers(home))  # with nothing to do it ends with its server


def _ended(server: Serve, job: str) -> dict[str, Any] | None:
    found = _ask(server, "GET", f"/fine_tuning/jobs/{job}").json()
    return dict(found) if found["status"] in ("succeeded", "failed", "cancelled") else None


@pytest.mark.slow
def test_a_worker_that_died_is_started_again(home: Path) -> None:
    server = Serve.start(home)
    (first,) = _until(lambda: _workers(home))
    os.kill(first, signal.SIGKILL)
    (second,) = _until(lambda: [pid for pid in _workers(home) if pid != first])
    assert second != first
    job = _job(server, 12, 1)
    assert _until(lambda: _ended(server, job), 400)["status"] == "succeeded"
    server.stop()
