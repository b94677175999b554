"""Writing files so that a reader never sees half of one, and saying plainly why a write failed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .errors import ConflictError, OutputError, TunesmithError

FULL = ("the disk is full", "the disk quota is used up")
GONE = "the folder is gone"

_REASONS = {
    errno.ENOSPC: (FULL[0], "free some space, then run the same command again"),
    errno.EDQUOT: (FULL[1], "free some space, then run the same command again"),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written"),
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("permission denied", "choose a folder that you may write to"),
    errno.ENOTDIR: ("a part of the path is not a folder", "choose another folder"),
    errno.ENOENT: (GONE, "restore the folder, or start again with another --out"),
}

_NUMBER_IN_TEXT = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust (safetensors) tell of a failed write: no OSError, its number in their text."""

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Of a network's file system that has none: there two processes must not change one folder at once."""

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


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


def require_space(folder: Path, size: int) -> None:
    """OutputError when fewer than `size` bytes are free where `folder` lies; nothing is written then.

    A file system that does not tell its size (some network ones say 0 of 0) is believed when it refuses a write.
    """
    try:
        total, _, free = shutil.disk_usage(folder)
    except OSError:
        return
    if total and free < size:
        error = _output_error(folder, errno.ENOSPC, "")
        error.what += f": {size / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free"
        raise error


def sync_folder(path: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def beside(path: Path) -> Path:
    """A hidden name beside `path` for what is not finished or no longer wanted; known by `leftovers` after a kill."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def leftovers(folder: Path) -> list[Path]:
    """What lies in a folder under names of `beside`."""
    return [entry for entry in folder.iterdir() if is_leftover(entry)]


def is_leftover(path: Path) -> bool:
    """Whether a name is one of `beside`."""
    return _LEFTOVER.fullmatch(path.name) is not None


def discard(path: Path) -> None:
    """Remove a file or a folder as far as that goes; nobody depends on it, so an error is no failure.

    A folder is renamed first: under its own name it is whole or absent, never half.
    """
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        shutil.rmtree(path if is_leftover(path) else path.rename(beside(path)))


def put_folder(new: Path, final: Path) -> None:
    """Give a finished folder its name, durably. OSError.

    What had the name is first renamed to one of `beside` and deleted last: at each moment the old or the new one is
    there, whole. A folder's name cannot be taken over in one rename.
    """
    old = beside(final)
    if os.path.lexists(final):
        final.rename(old)
    try:
        new.rename(final)
    except BaseException:
        with suppress(OSError):
            old.rename(final)
        raise
    sync_folder(final.parent)
    discard(old)


@contextmanager
def staying(folder: Path) -> Iterator[None]:
    """FileNotFoundError when inside the block the folder was deleted, or another took its place.

    For code that would create it anew. The handle keeps the folder's number from being given to another.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield
        if not os.path.samestat(os.fstat(handle), folder.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    finally:
        os.close(handle)


@contextmanager
def alone(folder: Path, *, busy: str, mend: str = "wait until it is done") -> Iterator[None]:
    """The folder, for the block alone among processes; ConflictError with `busy` while another has it.

    A process that is killed leaves no lock behind. Nothing is written into the folder.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(busy, mend=mend) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or none of it."""
    write_pieces(path, (content,))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a whole file or none of it, piece by piece."""
    with replacing(path) as file:
        for piece in pieces:
            file.write(piece)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` when the block ends, and is gone after an error in it.

    A temporary file beside it, fsync, one rename, fsync of the folder. After an error nothing is tried again on the
    same handle: the system reports a lost page once, and a second fsync would say that all is well.
    """
    temporary = beside(path)
    with writing(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            discard(temporary)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for a JSON value, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
