"""The folder of a migration: what was fetched and what was made of it. Each file is whole or absent, so that a kill at
any moment leaves nothing to mend, and what is there is not fetched again.

    migration.json     whence, and what was made of it
    jobs.json          all jobs: hyper-parameters, events, checkpoints, files, notes
    jobs/ID.json       one job as the service tells it
    files/ID.jsonl     a training or validation file, byte for byte;  files/ID.json  its record and SHA-256
    results/ID.csv     a result file as CSV;  results/ID.json  its record and SHA-256
    answers.jsonl      what the old models said
    recipes/ID.yaml    each job as a recipe;  runs/ID  the job trained again
    agreement.json, agreement.html   old beside new
    SHA256SUMS         of all that was fetched, for sha256sum -c
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from ...core import files, fingerprints
from ...core.errors import ConflictError, ContentError

STATE = "migration.json"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Folder:
    """A migration's folder; `open` makes it or takes it up again."""

    def __init__(self, path: Path):
        self.path = path

    @staticmethod
    @contextmanager
    def open(path: Path, service: str | None) -> Iterator[Folder]:
        """The folder, for the block alone. `service` is the address that is fetched from; None takes what is there.

        ConflictError where another process works in it, where it holds other things, and where it was fetched from
        another address; OutputError where it cannot be written.
        """
        files.make_folder(path)
        with files.alone(path, busy=f"another process migrates into {path}"):
            folder = Folder(path)
            folder._take_up(service)
            yield folder

    def _take_up(self, service: str | None) -> None:
        names = {entry.name for entry in self.path.iterdir()} - {entry.name for entry in files.leftovers(self.path)}
        if names and STATE not in names:
            raise ConflictError(f"{self.path} holds other things and no migration", mend="choose another --out")
        known = self.state().get("service")
        if service and known and known != service:
            raise ConflictError(
                f"{self.path} was fetched from {known}", why=f"now the address is {service}",
                mend="choose another --out, or set OPENAI_BASE_URL as it was",
            )  # fmt: skip
        for name in (".", "jobs", "files", "results", "recipes", "runs"):
            for leftover in files.leftovers(files.make_folder(self.path / name)):
                files.discard(leftover)
        if service and not known:
            self.remember(service=service)

    def state(self) -> dict[str, Any]:
        """`migration.json`; empty before anything was fetched."""
        return self.read(STATE) or {}

    def remember(self, **facts: Any) -> None:
        """Change keys of `migration.json`."""
        files.write_json(self.path / STATE, self.state() | facts)

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON object of the folder; None where it is absent, ContentError where it is damaged."""
        file = self.path / name
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            mend = "remove it, and run the same command again: it is fetched anew"
            raise ContentError(f"{file} is damaged", why=str(error), mend=mend) from error
        return dict(content)

    def write(self, name: str, value: Any) -> None:
        """A whole JSON file."""
        files.write_json(self.path / name, value)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A JSON Lines file; a line that a kill tore off is left out."""
        file = self.path / name
        if not file.is_file():
            return []
        return [orjson.loads(line) for line in _whole(file.read_bytes()).splitlines()]

    @contextmanager
    def appending(self, name: str) -> Iterator[Line]:
        """A JSON Lines file that lines are added to; a torn last one is cut off first."""
        path = self.path / name
        with files.writing(path), path.open("a+b") as file:
            file.seek(0)
            file.truncate(len(_whole(file.read())))
            yield Line(path, file.fileno())

    def fetched(self, kind: str, id: str) -> dict[str, Any] | None:
        """The record of a file that is there and as it was fetched; None where it must be fetched."""
        record = self.read(f"{kind}/{safe(id)}.json")
        if record is None:
            return None
        file = self.path / record["path"]
        return record if file.is_file() and fingerprints.of_file(file) == record["sha256"] else None

    def sums(self) -> None:
        """`SHA256SUMS` of all that was fetched and said."""
        fetched = [self.path / "jobs.json", self.path / "answers.jsonl"]
        fetched += [file for name in ("jobs", "files", "results") for file in sorted((self.path / name).iterdir())]
        lines = (f"{fingerprints.of_file(file)}  {file.relative_to(self.path)}\n" for file in fetched if file.is_file())
        files.write_text(self.path / "SHA256SUMS", "".join(lines))


class Line:
    """Adds lines to a file, each on the disk before the next is asked for."""

    def __init__(self, path: Path, handle: int):
        self._path, self._handle = path, handle

    def add(self, row: dict[str, Any]) -> None:
        """One line. OutputError where it cannot be written."""
        content = orjson.dumps(row) + b"\n"
        with files.writing(self._path):
            while content:
                content = content[os.write(self._handle, content) :]
            os.fsync(self._handle)


def _whole(content: bytes) -> bytes:
    """The lines that end."""
    return content[: content.rfind(b"\n") + 1]


def safe(id: str) -> str:
    """An id as a file's name: as it is where it has letters, digits, - and _ alone, else its digest. The service makes
    ids, and no name of its making may lead out of the folder."""
    return id if _SAFE.fullmatch(id) else f"id-{fingerprints.of_bytes(id.encode())[:32]}"
