"""The server, for tests: its app in this process, or `tunesmith serve` in a process of its own."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
from starlette.testclient import TestClient

import tiny
from tunesmith.governance.keys import SCOPES, Keys
from tunesmith.jobs.workers import Workers
from tunesmith.server.app import create_app
from tunesmith.server.services import Services
from tunesmith.server.settings import Settings
from tunesmith.store.database import Store

OTHER = "proj_other"
ROWS = b"".join(
    json.dumps({"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "yes"}]}).encode()
    + b"\n"
    for i in range(12)
)


@dataclass
class House:
    """An app, its services, and keys: `keys["read"]` has that scope alone, `all` has each, `other` is a stranger's."""

    services: Services
    client: TestClient
    keys: dict[str, str]

    @staticmethod
    @contextmanager
    def open(home: Path, **settings: Any) -> Iterator[House]:
        """Over a new home: a copy of one that was made once, for the schema and the keys take a second."""
        home.mkdir(parents=True)
        for file in _template()[0].glob("tunesmith.db*"):
            shutil.copy(file, home)
        services, keys = Services.open(Settings(home=home, **settings)), _template()[1]
        with TestClient(
            create_app(services.settings, services), base_url="http://127.0.0.1:8000", raise_server_exceptions=False
        ) as client:
            yield House(services, client, keys)
        services.close()

    def ask(self, method: str, path: str, key: str = "all", **options: Any) -> Any:
        """One request with a key."""
        headers = {"authorization": f"Bearer {self.keys[key]}"} | options.pop("headers", {})
        return self.client.request(method, path, headers=headers, **options)

    def upload(self, content: bytes = ROWS, key: str = "all", **fields: str) -> Any:
        """A file for fine-tuning."""
        return self.ask(
            "POST", "/v1/files", key, files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"} | fields
        )

    def job(self, key: str = "all", **body: Any) -> Any:
        """A job on the bundled base with a file of its own."""
        file = body.pop("training_file", None) or self.upload(key=key).json()["id"]
        return self.ask(
            "POST", "/v1/fine_tuning/jobs", key, json={"model": "bundled/tunesmith-8m", "training_file": file} | body
        )

    def blobs(self) -> int:
        """How many files lie among the blobs, whole or not."""
        folder = self.services.settings.home / "blobs"
        return sum(path.is_file() for path in folder.rglob("*")) if folder.is_dir() else 0


@cache
def _template() -> tuple[Path, dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-test-home-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = Store.open(None, folder)
    keys = make_keys(Keys(store))
    store.close()
    return folder, keys


def make_keys(keys: Keys) -> dict[str, str]:
    """A key for each scope, one with all, and one of another project."""
    keys.add_project("proj_default", "default", "personal", exist_ok=True)
    keys.add_project(OTHER, "other", "stranger")
    made = {scope: keys.create(name=scope, scopes=[scope])[0] for scope in SCOPES}
    return made | {"all": keys.create(name="all")[0], "other": keys.create(name="other", project_id=OTHER)[0]}


def error(answer: Any) -> dict[str, Any]:
    """The error of a failure, which must be in the envelope and nothing else."""
    content = answer.json()
    assert set(content) == {"error"}, content
    assert set(content["error"]) == {"message", "type", "param", "code"}
    assert isinstance(content["error"]["message"], str)
    assert content["error"]["message"]
    return dict(content["error"])


STARTED: list[Serve] = []


@dataclass
class Serve:
    """`tunesmith serve` in a process of its own."""

    home: Path
    process: subprocess.Popen[str]
    url: str
    first_key: str | None
    log: Path = field(default=Path())

    @staticmethod
    def start(home: Path, *arguments: str, **environment: str) -> Serve:
        """Start it on a free port; back when it answers."""
        home.mkdir(parents=True, exist_ok=True)
        log = home.parent / f"{home.name}-serve-{time.monotonic_ns()}.log"
        own = {"HF_HUB_OFFLINE": "1", "TUNESMITH_HOME": str(home)}
        with log.open("wb") as words:
            process = subprocess.Popen(
                [sys.executable, "-m", "tunesmith", "serve", "--port", "0", *arguments],
                stdout=subprocess.PIPE, stderr=words, text=True, bufsize=1, start_new_session=True,
                env={**os.environ, **tiny.ENVIRONMENT, **own, **environment},
            )  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http"), log.read_text()
        until = time.monotonic() + 60
        while True:
            try:
                httpx2.get(f"{url.removesuffix('/v1')}/health", trust_env=False)
                break
            except httpx2.TransportError:
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
        made = Serve(home, process, url, None, log)
        STARTED.append(made)
        made.first_key = made._first_key()
        return made

    def _first_key(self) -> str | None:
        """What it printed of a first key; it is printed before the server answers."""
        assert self.process.stdout is not None
        store = Store.open(None, self.home)
        first = [key for key in Keys(store).list() if key.name == "first"]
        store.close()
        file = self.home / "first-key-of-the-test"
        if first and not file.exists():
            file.write_text(self.process.stdout.readline().rpartition(" ")[2].strip(), "utf-8")
        return file.read_text("utf-8") if file.exists() else None

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._gone(10)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._gone(30)

    def _gone(self, patience: float) -> int:
        code = self.process.wait(patience)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def end_all(home: Path) -> None:
    """Kill the servers of a home that a failed test left, then its workers and what they started."""
    for server in STARTED:
        if server.home == home and server.process.poll() is None:
            server.kill()
    store = Store.open(None, home)
    for worker in Workers(store).known():
        if worker.process.here and worker.alive:
            worker.process.kill()
    store.close()
