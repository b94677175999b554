"""Stores for tests: SQLite, PostgreSQL where it is installed, a clock that the test moves, jobs to submit."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine, text

from tunesmith.governance.keys import Identity, Keys
from tunesmith.jobs.model import Job, NewJob
from tunesmith.jobs.queue import Queue
from tunesmith.store.database import Store


class Clock:
    """Seconds that go on when the test says so."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.at += seconds


def identity(store: Store, **options: Any) -> Identity:
    """A new key of the default project."""
    keys = Keys(store)
    keys.add_project("proj_default", "default", "personal", exist_ok=True)
    return keys.authenticate(keys.create(name="test", **options)[0])


def new_job(who: Identity, **changes: Any) -> NewJob:
    """A request with nothing special."""
    asked = {
        "project_id": who.project_id, "key_id": who.key_id, "organization": who.organization, "model": "tiny",
        "base": "bundled/tunesmith-8m", "training_file": "file-train",
        "method": {"type": "supervised", "hyperparameters": {}}, "seed": 1,
    }  # fmt: skip
    return NewJob(**asked | changes)


def submit(queue: Queue, who: Identity, **changes: Any) -> Job:
    return queue.submit(new_job(who, **changes))


# PostgreSQL


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where they are not installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return found[-1].parent if found else None


class Server:
    """A PostgreSQL of its own on a socket in a folder of its own. Skips, and says so, where none is installed."""

    def __init__(self) -> None:
        installed = programs()
        if installed is None:
            pytest.skip("NOT TESTED ON POSTGRESQL: initdb is not installed here (apt install postgresql)")
        self._bin = installed

    def __enter__(self) -> Server:
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))
        self.url = f"postgresql+psycopg://tunesmith@/postgres?host={self._folder}"
        user = _not_root()
        as_user: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid} if user else {}
        if user:
            shutil.chown(self._folder, user)
        self._quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT} | as_user
        self._quiet["cwd"] = self._folder
        options = ["-U", "tunesmith", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        subprocess.run([self._bin / "initdb", "-D", self._folder / "data", *options], check=True, **self._quiet)
        self.start()
        return self

    def start(self) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self._folder), "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [self._bin / "postgres", "-D", self._folder / "data", *options]
        self._process = subprocess.Popen(command, **self._quiet)
        until = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, "postgres does not start"
            assert time.monotonic() < until
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Its socket is there before it lets anybody in, so one has to ask."""
        try:
            psycopg.connect(dbname="postgres", user="tunesmith", host=str(self._folder)).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # the fast way out: it waits for no client
        self._process.wait(60)

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a new server."""
    with Server() as server:
        yield server.url


def database(server: str) -> str:
    """A new empty database of a server; its URL."""
    name = f"t{uuid4().hex[:12]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


def _not_root() -> str | None:
    """Whom to become: PostgreSQL does not run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
