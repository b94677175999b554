"""A run's folder: what stands where, and who may write it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import yaml

from ..core import clock, files
from ..core.errors import ConflictError, ContentError, MissingError, OutputError
from .recipe import RunSpec

_LOCK_HEADER = "# Everything resolved: what ran. `tunesmith run` takes this file again.\n"

_FIRST_FILES = ("recipe.lock.yaml", "run.json")
"""By these a folder is known as a run's, however early the run was killed."""

_ROOM = 2**16
"""Bytes: more than `run.json` takes on a file system of large blocks."""


class RunDir:
    """The files of one run. Every whole-file write is atomic."""

    def __init__(self, path: Path):
        self.path = path
        self._room: Path | None = None

    @staticmethod
    def create(path: Path, *, resume: bool) -> RunDir:
        """A new folder, or with `resume` an existing one. ConflictError, OutputError."""
        if path.exists() and not path.is_dir():
            raise OutputError(
                f"cannot write {path}", why="it is there already and is no folder", mend="choose another --out"
            )
        if path.is_dir() and not resume:
            raise ConflictError(f"{path} is there already", mend="add --resume to continue it, or choose another --out")
        if path.is_dir() and _holds_other_things(path):
            raise ConflictError(f"{path} holds other things and no run", mend="choose another --out")
        files.make_folder(path)
        probe = files.beside(path / "probe")
        with files.writing(path):
            probe.touch()
            probe.unlink()
        return RunDir(path)

    @staticmethod
    def open(path: Path) -> RunDir:
        """An existing run; MissingError otherwise."""
        if not (path / "run.json").is_file():
            raise MissingError(f"no run at {path}", mend="name a run's folder; `tunesmith runs` lists them")
        return RunDir(path)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def holds_training(self) -> bool:
        """Whether a checkpoint or a trained model is there, which a resumed training would build upon."""
        return any(self.checkpoints.glob("step-*")) or any((self.path / n).is_dir() for n in ("adapter", "model"))

    def date(self) -> str:
        """The day that templates show in all that this run does, YYYY-MM-DD; of older runs the day they began."""
        facts = self.read_json("run.json")
        return str(facts.get("date") or facts.get("created") or clock.today())[:10]

    @property
    def metrics(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; MissingError where it is absent, ContentError where it is damaged."""
        file = self.path / name
        if not file.is_file():
            raise MissingError(f"{file} is not there", mend="finish the run: tunesmith run RECIPE --out DIR --resume")
        try:
            content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ContentError(f"{file} is damaged", why=str(error)) from error
        return content

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """A JSON Lines file of the run; empty where it is absent. A torn last line is left out."""
        file = self.path / name
        if not file.is_file():
            return []
        rows = []
        for line in file.read_bytes().splitlines():
            try:
                rows.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                break
        return rows

    def curves(self) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """(training, validation) points (step, loss) from `metrics.jsonl`."""
        rows = self.read_lines("metrics.jsonl")
        train = [(r["step"], r["loss"]) for r in rows if r.get("loss") is not None]
        return train, [(r["step"], r["validation_loss"]) for r in rows if r.get("validation_loss") is not None]

    def write_json(self, name: str, value: Any) -> None:
        """A whole JSON file."""
        files.write_json(self.path / name, value)

    def write_lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """A whole JSON Lines file."""
        files.write_bytes(self.path / name, b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def write_pieces(self, name: str, pieces: Iterable[bytes]) -> None:
        """A whole file, piece by piece."""
        files.write_pieces(self.path / name, pieces)

    def write_text(self, name: str, text: str) -> None:
        """A whole text file."""
        files.write_text(self.path / name, text)

    def write_recipe(self, spec: RunSpec) -> None:
        """`recipe.lock.yaml`."""
        body = yaml.safe_dump(spec.as_json(), sort_keys=False, allow_unicode=True, width=100)
        self.write_text("recipe.lock.yaml", _LOCK_HEADER + body)

    def recipe_text(self) -> str:
        """The resolved recipe as it was written."""
        file = self.path / "recipe.lock.yaml"
        if not file.is_file():
            raise MissingError(f"{file} is not there", mend="name the folder of a run that was started")
        return file.read_text("utf-8")

    def recipe(self) -> RunSpec:
        """The resolved recipe."""
        return RunSpec.model_validate(yaml.safe_load(self.recipe_text()))

    def update(self, **facts: Any) -> None:
        """Change keys of `run.json`, creating it at first. None takes a key away."""
        file = self.path / "run.json"
        known = json.loads(file.read_text("utf-8")) if file.is_file() else {"created": clock.now()}
        facts = known | facts | {"updated": clock.now(), "pid": os.getpid()}
        self.write_json("run.json", {key: value for key, value in facts.items() if value is not None})

    def tidy(self) -> None:
        """Remove what writes left that a kill cut short; only once it is certain that this run goes on."""
        for leftover in files.leftovers(self.path):
            files.discard(leftover)

    def reserve(self) -> None:
        """Set a little room aside, so that `run.json` can tell how a run ended even where others filled the disk."""
        self._room = files.beside(self.path / "room")
        with files.writing(self._room):
            self._room.write_bytes(os.urandom(_ROOM))  # noise, for a file system may store zeros in no room

    def release(self) -> None:
        """Give the room back."""
        if self._room:
            files.discard(self._room)

    def write_folder(self, name: str, fill: Callable[[Path], None]) -> Path:
        """Put a folder in place whole: filled beside it, synced, then renamed over what was there."""
        final = self.path / name
        temporary = files.beside(final)
        with files.writing(final):
            try:
                with files.staying(self.path):  # libraries make their folder, and its parents, when it is not there
                    temporary.mkdir()
                    fill(temporary)
                usual = temporary.stat().st_mode & 0o666  # safetensors lets nobody else read what it writes
                for file in (entry for entry in temporary.rglob("*") if entry.is_file()):
                    file.chmod(usual)
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
                files.sync_folder(temporary)
                files.put_folder(temporary, final)
            except BaseException:
                files.discard(temporary)
                with suppress(OSError):
                    self.path.rmdir()  # goes only when empty: then it was deleted and made again
                raise
        return final


def _holds_other_things(folder: Path) -> bool:
    """Whether something is there, and neither a run nor what is left of one that was killed at its very beginning."""
    names = {entry.name for entry in folder.iterdir()} - {entry.name for entry in files.leftovers(folder)}
    return bool(names) and names.isdisjoint(_FIRST_FILES)
