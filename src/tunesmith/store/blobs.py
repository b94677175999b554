"""Files by names that the store makes. No name of a client's ever becomes a path."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ..core import files, ids
from ..core.errors import ContentError, MissingError

_NAME = re.compile(r"[A-Za-z0-9]{32}")
PIECE = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True)
class Blob:
    """What was stored."""

    name: str
    size: int
    sha256: str


class TooLargeError(ContentError):
    """More bytes came than are allowed. Nothing of them is kept."""


class Blobs(Protocol):
    """Where uploaded files and results lie. Names are 32 random letters and digits."""

    def put(self, content: BinaryIO | Iterable[bytes], *, limit: int | None = None) -> Blob:
        """Store a stream whole or not at all. TooLargeError beyond `limit` bytes, OutputError for a full disk."""

    def open(self, name: str) -> BinaryIO:
        """The bytes, from the beginning. MissingError."""

    def delete(self, name: str) -> None:
        """Remove it; nothing happens where it is gone already."""

    def names(self, *, idle: float = 0.0) -> Iterator[str]:
        """All blobs to which nothing was written for `idle` seconds, in no order."""

    def clear(self, *, idle: float) -> int:
        """Remove what was begun and never became a blob, and stood still for `idle` seconds; how many."""


class FolderBlobs:
    """Blobs as files in a folder, two letters of the name a subfolder."""

    def __init__(self, folder: Path):
        self._folder = folder

    def put(self, content: BinaryIO | Iterable[bytes], *, limit: int | None = None) -> Blob:
        """Written beside its place, synced, renamed."""
        name = ids.base62(32)
        path = self.path(name)
        files.make_folder(path.parent)
        digest, size = hashlib.sha256(), 0
        with files.replacing(path) as file:
            for piece in _pieces(content, limit):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
        return Blob(name, size, digest.hexdigest())

    def open(self, name: str) -> BinaryIO:
        """The file, opened to read."""
        try:
            return self.path(name).open("rb")
        except FileNotFoundError as error:
            raise _missing(name) from error

    def delete(self, name: str) -> None:
        """Unlink the file."""
        self.path(name).unlink(missing_ok=True)

    def names(self, *, idle: float = 0.0) -> Iterator[str]:
        """The files of the subfolders, by the time of their last byte."""
        return (path.name for path in self._idle(idle) if _NAME.fullmatch(path.name))

    def clear(self, *, idle: float) -> int:
        """Temporary files of processes that were killed while they wrote."""
        begun = [path for path in self._idle(idle) if files.is_leftover(path)]
        for path in begun:
            files.discard(path)
        return len(begun)

    def _idle(self, seconds: float) -> Iterator[Path]:
        until = time.time() - seconds
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                if path.stat().st_mtime <= until:
                    yield path

    def path(self, name: str) -> Path:
        """Where a blob lies. MissingError for what is no blob's name: it cannot lead out of the folder."""
        if not _NAME.fullmatch(name):
            raise _missing(name)
        return self._folder / name[:2] / name


class MemoryBlobs:
    """Blobs in memory, for tests and for servers that keep nothing."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._written: dict[str, float] = {}

    def put(self, content: BinaryIO | Iterable[bytes], *, limit: int | None = None) -> Blob:
        """Kept under a new name."""
        name, held = ids.base62(32), b"".join(_pieces(content, limit))
        self._held[name], self._written[name] = held, time.monotonic()
        return Blob(name, len(held), hashlib.sha256(held).hexdigest())

    def open(self, name: str) -> BinaryIO:
        """The bytes."""
        if name not in self._held:
            raise _missing(name)
        return io.BytesIO(self._held[name])

    def delete(self, name: str) -> None:
        """Forget it."""
        self._held.pop(name, None)
        self._written.pop(name, None)

    def names(self, *, idle: float = 0.0) -> Iterator[str]:
        """Those that are held for so long."""
        until = time.monotonic() - idle
        return (name for name, at in list(self._written.items()) if at <= until)

    def clear(self, *, idle: float) -> int:
        """Nothing is ever half there."""
        return 0


def _pieces(content: BinaryIO | Iterable[bytes], limit: int | None) -> Iterable[bytes]:
    size = 0
    pieces = iter(lambda: content.read(PIECE), b"") if hasattr(content, "read") else content
    for piece in pieces:
        size += len(piece)
        if limit is not None and size > limit:
            raise TooLargeError(f"more than {limit} bytes", mend="send a smaller file")
        yield piece


def _missing(name: str) -> MissingError:
    return MissingError(f"there is no stored file {name[:40]!r}")
