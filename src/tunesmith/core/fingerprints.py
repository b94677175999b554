"""SHA-256 of files and of plain objects: what ties a run to its data, its base and its recipe."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def of_bytes(content: bytes) -> str:
    """Hex SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_object(value: Any) -> str:
    """Hex SHA-256 of a JSON-like value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return of_bytes(text.encode())


def of_folder(folder: Path, names: list[str]) -> str:
    """Hex SHA-256 over the named files of a folder, each by name and content; absent ones are left out."""
    return of_object({name: of_file(folder / name) for name in sorted(names) if (folder / name).is_file()})
