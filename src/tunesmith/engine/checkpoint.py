"""Checkpoints: whole or absent, verified before use, newest valid one wins.

A checkpoint is written into a temporary folder, each file synced; MANIFEST.json with size and SHA-256 of every
file comes last; one rename makes it visible. safetensors and JSON only. The checksums matter: safetensors itself
does not notice a flipped bit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core import files, fingerprints

MANIFEST = "MANIFEST.json"
_NAME = re.compile(r"step-(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds. `state` is JSON-like; the rest are tensors by name."""

    step: int
    trainable: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    rng: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The `checkpoints/` folder of a run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def steps(self) -> list[int]:
        """Steps with a visible checkpoint, oldest first."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step}"

    def save(self, checkpoint: Checkpoint) -> None:
        """Make a checkpoint visible, or leave no trace; OutputError when it cannot be written."""
        files.make_folder(self.folder)
        temporary = self.folder / f".step-{checkpoint.step}.{uuid.uuid4().hex[:8]}.tmp"
        with files.writing(self.folder):
            try:
                temporary.mkdir()
                _write(temporary, checkpoint)
                final = self.path(checkpoint.step)
                if final.exists():
                    shutil.rmtree(final)
                temporary.rename(final)
                files.sync_folder(self.folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    def load(self, step: int) -> Checkpoint:
        """A verified checkpoint; ValueError that says what is wrong with it otherwise."""
        folder = self.path(step)
        _verify(folder)
        return Checkpoint(
            step=step,
            trainable=load_file(folder / "trainable.safetensors"),
            optimizer=load_file(folder / "optimizer.safetensors"),
            rng=load_file(folder / "rng.safetensors"),
            state=json.loads((folder / "state.json").read_text("utf-8")),
        )

    def newest_valid(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that verifies, and a sentence for each newer one that does not.

        A broken one is set aside under another name, never deleted.
        """
        complaints: list[str] = []
        for step in reversed(self.steps()):
            try:
                return self.load(step), complaints
            except (ValueError, OSError, KeyError) as error:
                complaints.append(f"checkpoint step-{step} is damaged and was set aside: {error}")
                self.path(step).rename(self.folder / f"damaged-{step}-{uuid.uuid4().hex[:6]}")
        return None, complaints

    def prune(self, keep_newest: int, keep_also: set[int]) -> None:
        """Remove all but the newest few and the named ones, and leftovers of interrupted writes."""
        steps = self.steps()
        for step in set(steps) - set(steps[-keep_newest:]) - keep_also:
            shutil.rmtree(self.path(step))
        for leftover in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    tensors = {
        "trainable.safetensors": checkpoint.trainable,
        "optimizer.safetensors": checkpoint.optimizer,
        "rng.safetensors": checkpoint.rng,
    }
    for name, values in tensors.items():
        save_file({key: v.detach().cpu().contiguous() for key, v in values.items()}, folder / name)
    (folder / "state.json").write_text(json.dumps(checkpoint.state), "utf-8")
    listed = {}
    for name in (*tensors, "state.json"):
        path = folder / name
        _sync_file(path)
        listed[name] = {"size": path.stat().st_size, "sha256": fingerprints.of_file(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"step": checkpoint.step, "files": listed}, indent=1), "utf-8")
    _sync_file(manifest)
    files.sync_folder(folder)


def _manifest(folder: Path) -> tuple[int, dict[str, tuple[int, str]]]:
    """(step, size and SHA-256 by file); ValueError for anything else than what `_write` wrote."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        return manifest["step"], {name: (f["size"], f["sha256"]) for name, f in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ValueError(f"its {MANIFEST} cannot be read: {error}") from error


def _verify(folder: Path) -> None:
    step, listed = _manifest(folder)
    if f"step-{step}" != folder.name:
        raise ValueError(f"its manifest is that of step {step}")
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
    """State of every random generator that a training step draws from."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_rng_state(state: dict[str, Tensor]) -> None:
    """Put back what `rng_state` gave."""
    torch.set_rng_state(state["cpu"])
    numbers = sorted(int(key.removeprefix("cuda.")) for key in state if key.startswith("cuda."))
    devices = [state[f"cuda.{number}"] for number in numbers]
    if devices and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(devices)
