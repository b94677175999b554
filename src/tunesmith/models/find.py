"""From the name of a base to its folder, with an error that names the mend. Loads no torch."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import MissingError, nearest
from .hub import fetch
from .refs import BUNDLED, DEFAULT, Base, bundled_names

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def find(name: str, relative_to: Path | None = None) -> Base:
    """The base called `name`: bundled, else a local folder, else a hub id (from the local cache, then the hub).

    Raises MissingError (exit 4) when there is none or the hub cannot be reached.
    """
    if name.startswith("bundled/"):
        folder = BUNDLED / name.removeprefix("bundled/")
        if name not in bundled_names():
            raise MissingError(f"no bundled base '{name}'", mend=nearest(name, bundled_names()))
        return Base(name, folder)
    for folder in _candidates(name, relative_to):
        if folder.exists():
            return Base(name, _checked(folder))
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return Base(name, _checked(fetch(name)))
    raise MissingError(
        f"no base '{name}'", why="it is neither a bundled name, nor a folder, nor a hub id (owner/name)",
        mend=f"use {DEFAULT}, or the path of a Hugging Face model folder",
    )  # fmt: skip


def _candidates(name: str, relative_to: Path | None) -> list[Path]:
    path = Path(name).expanduser()
    return [path] if path.is_absolute() or relative_to is None else [relative_to / path, path]


def _checked(folder: Path) -> Path:
    if (folder / "run.json").is_file():
        raise MissingError(
            f"{folder} is a run, not a base", why="a base is one whole model",
            mend=f"write the run's model out first: tunesmith export {folder} --to merged --out DIR",
        )  # fmt: skip
    if not (folder / "config.json").is_file():
        raise MissingError(
            f"{folder} is no model folder", why="it holds no config.json",
            mend=f"name a folder in the Hugging Face layout, or use {DEFAULT}",
        )  # fmt: skip
    if not any(folder.glob("*.safetensors")):
        raise MissingError(
            f"{folder} holds no weights in safetensors", why="pickled weights are never loaded",
            mend="convert them: save_pretrained(..., safe_serialization=True)",
        )  # fmt: skip
    return folder
