"""Writing files so that a reader never sees half of one, and saying plainly why a write failed."""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import OutputError, TunesmithError

_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space, then run the same command with --resume"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then run the same command with --resume"),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written"),
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("permission denied", "choose a folder that you may write to"),
    errno.ENOTDIR: ("a part of the path is not a folder", "choose another folder"),
    errno.ENOENT: ("the folder is gone", "restore the folder, or start again with another --out"),
}

_NUMBER_IN_TEXT = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust (safetensors) tell of a failed write: no OSError, its number in their text."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating-system error inside the block into an OutputError that names `path` and the mend."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, error.errno, error.strerror or str(error)) from error
    except Exception as error:
        told = _NUMBER_IN_TEXT.search(str(error))
        if isinstance(error, TunesmithError) or told is None:
            raise
        number = int(told.group(1))
        raise _output_error(path, number, os.strerror(number)) from error


def _output_error(path: Path, number: int | None, otherwise: str) -> OutputError:
    why, mend = _REASONS.get(number or 0, (otherwise, "choose another folder"))
    return OutputError(f"cannot write {path}", why=why, mend=mend)


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; an OutputError when that cannot be."""
    with writing(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path)) from error
    return path


def sync_folder(path: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or none of it: a temporary file beside it, fsync, one rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for a JSON value, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
