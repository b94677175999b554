"""Gzip and zstd as streams that never hold more than they were asked for, and stop at a budget."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from .raw import DamagedError, Limits, megabytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BUFFER = 1 << 16
_STEP = 1 << 10
"""Compressed bytes taken at once: zstd makes at most 128 kB of 4 bytes, so 32 MB of these."""


def opened(path: Path, limits: Limits) -> io.BufferedReader:
    """The file's bytes, decompressed where it is compressed. Its reads raise DamagedError."""
    file = path.open("rb", buffering=0)
    head = file.read(4)
    file.seek(0)
    if head.startswith(GZIP):
        read: Callable[[int], bytes] = gzip.GzipFile(fileobj=file).read
    elif head == ZSTD:
        read = _Zstd(file).read
    else:
        return io.BufferedReader(file, BUFFER)
    return io.BufferedReader(_Expanded(file, read, limits.budget(path.stat().st_size)), BUFFER)


class _Expanded(io.RawIOBase):
    """Decompressed bytes. What could be read before the damage is given out first."""

    def __init__(self, file: io.FileIO, read: Callable[[int], bytes], budget: int):
        self._file, self._read, self._budget, self._count = file, read, budget, 0
        self._damage: DamagedError | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file below."""
        self._file.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer as far as the stream goes."""
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and not self._damage:
            piece = self._piece(len(view) - filled)
            if not piece:
                break
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        if self._damage and not filled:
            raise self._damage
        return filled

    def _piece(self, size: int) -> bytes:
        try:
            piece = self._read(size)
        except EOFError:
            self._damage = DamagedError("the compressed file ends in the middle: it was cut off")
            return b""
        except (OSError, zlib.error, zstandard.ZstdError) as error:
            self._damage = DamagedError(f"the compressed file is damaged here: {error}")
            return b""
        self._count += len(piece)
        if self._count > self._budget:
            much = megabytes(self._budget)
            self._damage = DamagedError(f"the compressed file grows beyond {much}: decompress it first if that is so")
            return b""
        return piece


class _Zstd:
    """Frames of zstd one after another; EOFError where the last one is not whole."""

    def __init__(self, file: io.FileIO):
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._rest, self._begun = b"", False
        self._ready, self._at = b"", 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while self._at == len(self._ready):
            chunk = self._rest or self._file.read(_STEP)
            if not chunk:
                if self._begun:
                    raise EOFError
                return b""
            self._rest, self._begun = b"", True
            self._ready, self._at = self._frame.decompress(chunk), 0
            if self._frame.eof:
                self._rest, self._begun = self._frame.unused_data, False
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        piece = self._ready[self._at : self._at + size]
        self._at += len(piece)
        return piece
