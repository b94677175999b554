"""Checkpoints: whole or absent, verified before use, newest valid one wins.

A checkpoint is written into a temporary folder, each file synced; MANIFEST.json with size and SHA-256 of every
file comes last; one rename makes it visible. safetensors and JSON only. The checksums matter: safetensors itself
does not notice a flipped bit.

Of several processes each writes its share (`shares`); rank 0 alone makes, names, verifies and removes folders.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..core import files, fingerprints
from . import shares
from .distributed import ALONE, World

MANIFEST = "MANIFEST.json"
Listed = dict[str, dict[str, int | str]]
"""Size and SHA-256 by file name."""
_NAME = re.compile(r"step-(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds. `state` is JSON, every number in it finite; the rest are tensors by name."""

    step: int
    trainable: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    rng: Mapping[str, Tensor]
    """Of this process; empty where the checkpoint was written by fewer."""
    state: dict[str, Any]


class Checkpoints:
    """The `checkpoints/` folder of a run.

    A folder called `step-N` is whole, or is found out by `load`. Nothing is deleted or replaced under that name.
    """

    def __init__(self, folder: Path, world: World = ALONE):
        self.folder, self._world = folder, world
        self._unusable: set[int] = set()

    def steps(self) -> list[int]:
        """Steps with a visible checkpoint, oldest first; without those found damaged that could not be set aside."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted({int(match.group(1)) for match in found if match} - self._unusable)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step}"

    def save(self, checkpoint: Checkpoint) -> None:
        """Make a checkpoint visible, or leave no trace; OutputError when it cannot be written.

        The room is asked for before anything is written.
        """
        final = self.path(checkpoint.step)
        temporary = self._world.from_main(lambda: self._begin(final, checkpoint))
        try:
            written = self._world.together(lambda: _write(temporary, checkpoint, self._world, self.folder))
            listed = {name: facts for share in self._world.gather(written) for name, facts in share.items()}
            self._world.only_main(lambda: self._finish(temporary, final, checkpoint.step, listed))
        except BaseException:
            if self._world.main:
                files.discard(temporary)
            raise
        self._unusable.discard(checkpoint.step)

    def _begin(self, final: Path, checkpoint: Checkpoint) -> Path:
        temporary = files.beside(final)
        with files.writing(self.folder):
            self.folder.mkdir(exist_ok=True)  # not its parents: a run's folder that is gone must not come back empty
            files.require_space(self.folder, _size(checkpoint))
            temporary.mkdir()
        return temporary

    def _finish(self, temporary: Path, final: Path, step: int, listed: Listed) -> None:
        with files.writing(self.folder):
            manifest = temporary / MANIFEST
            manifest.write_text(json.dumps({"step": step, "files": listed}, indent=1), "utf-8")
            _sync_file(manifest)
            files.sync_folder(temporary)
            files.put_folder(temporary, final)

    def load(self, step: int) -> Checkpoint:
        """A verified checkpoint; ValueError that says what is wrong with it otherwise."""
        self._world.only_main(lambda: _verify(self.path(step), step))
        return self._read(step)

    def _read(self, step: int) -> Checkpoint:
        folder, rng = self.path(step), self.path(step) / shares.file_name("rng", self._world.rank)
        return Checkpoint(
            step=step,
            trainable=shares.SharedTensors(folder, "trainable"),
            optimizer=shares.SharedTensors(folder, "optimizer"),
            rng=load_file(rng) if rng.exists() else {},
            state=json.loads((folder / "state.json").read_text("utf-8")),
        )

    def newest_valid(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that verifies, and a sentence for each newer one that does not.

        A broken one is set aside under another name, never deleted.
        """
        step, complaints = self._world.from_main(self._newest)
        return (None if step is None else self._read(step)), complaints

    def _newest(self) -> tuple[int | None, list[str]]:
        self._recover()
        complaints: list[str] = []
        for step in reversed(self.steps()):
            try:
                _verify(self.path(step), step)
            except (ValueError, OSError) as error:
                complaints.append(f"checkpoint step-{step} is damaged and {self._set_aside(step)}: {error}")
            else:
                return step, complaints
        return None, complaints

    def prune(self, keep_newest: int, keep_also: set[int]) -> None:
        """Remove all but the newest few and the named ones, and leftovers of interrupted writes.

        Two are kept at least, for the newest may turn out damaged. What cannot be removed stays until the next time.
        """
        self._world.only_main(lambda: self._prune(max(keep_newest, 2), keep_also))

    def _prune(self, keep_newest: int, keep_also: set[int]) -> None:
        with files.writing(self.folder):
            steps = self.steps()
            for step in set(steps) - set(steps[-keep_newest:]) - keep_also:
                files.discard(self.path(step))
            for leftover in files.leftovers(self.folder):
                files.discard(leftover)

    def _recover(self) -> None:
        """Put right what a kill between two renames left: a whole checkpoint gets its name, the rest goes."""
        for leftover in files.leftovers(self.folder) if self.folder.is_dir() else ():
            name = _NAME.fullmatch(leftover.name.split(".")[1])
            if name and not os.path.lexists(self.folder / name.group()):
                with suppress(ValueError, OSError):
                    _verify(leftover, int(name.group(1)))
                    leftover.rename(self.folder / name.group())
                    continue
            files.discard(leftover)

    def _set_aside(self, step: int) -> str:
        try:
            self.path(step).rename(self.folder / f"damaged-{step}-{uuid.uuid4().hex[:6]}")
        except OSError as error:
            self._unusable.add(step)
            return f"could not be set aside ({error.strerror})"
        return "was set aside"


def _size(checkpoint: Checkpoint) -> int:
    """Bytes that `save` needs: the tensors exactly, and a MiB for headers, state and manifest.

    The new one stands beside those kept, so it is counted whole. What is left of the MiB is for `run.json` and the log,
    which must still tell how a run ended.
    """
    tensors = (*checkpoint.trainable.values(), *checkpoint.optimizer.values(), *checkpoint.rng.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + 2**20


def _write(folder: Path, checkpoint: Checkpoint, world: World, where: Path) -> Listed:
    """Write and sync this process's files; their sizes and checksums. `where` is the place that an error names."""
    with files.writing(where):
        paths = [
            shares.write(folder, "trainable", checkpoint.trainable, world),
            shares.write(folder, "optimizer", checkpoint.optimizer, world),
            shares.write_own(folder, "rng", checkpoint.rng, world),
        ]
        if world.main:
            paths.append(folder / "state.json")
            (folder / "state.json").write_text(json.dumps(checkpoint.state, allow_nan=False), "utf-8")
        listed: Listed = {}
        for path in (path for path in paths if path):
            _sync_file(path)
            listed[path.name] = {"size": path.stat().st_size, "sha256": fingerprints.of_file(path)}
    return listed


def _manifest(folder: Path) -> tuple[int, dict[str, tuple[int, str]]]:
    """(step, size and SHA-256 by file); ValueError for anything else than what `_write` wrote."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        return manifest["step"], {name: (f["size"], f["sha256"]) for name, f in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ValueError(f"its {MANIFEST} cannot be read: {error}") from error


def _verify(folder: Path, step: int) -> None:
    written, listed = _manifest(folder)
    if written != step:
        raise ValueError(f"its manifest is that of step {written}")
    present = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    if present != set(listed):
        raise ValueError(f"files differ from the manifest: {', '.join(sorted(present ^ set(listed)))}")
    for name, (size, sha256) in listed.items():
        path = folder / name
        if path.stat().st_size != size or fingerprints.of_file(path) != sha256:
            raise ValueError(f"{name} does not match its checksum")


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def rng_state() -> dict[str, Tensor]:
    """State of every random generator that a training step of this process draws from."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def set_rng_state(state: Mapping[str, Tensor]) -> None:
    """Put back what `rng_state` gave."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
