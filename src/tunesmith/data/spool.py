"""Records of bytes outside the memory: what is too much for it waits in a file without a name.

The file is removed as soon as it is open, so a killed process leaves nothing behind. It lies under TMPDIR where that
is set; otherwise where the system keeps large temporary files on disk, for the usual place is often memory itself.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from ..core import files

IN_MEMORY = 1 << 26
"""Bytes of one spool that stay in memory: small sets touch no disk."""
_READ = 1 << 20


class Spool:
    """Records in the order in which they were appended, read by their number; from several threads if need be."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._lock = Lock()
        self._waiting = bytearray()
        self._file: BinaryIO | None = None  # until the memory allowed is used up
        self._written = 0
        self._bounds = array("Q", [0])

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def size(self) -> int:
        """Bytes of all records."""
        return self._bounds[-1]

    def append(self, record: bytes) -> None:
        """One more record. OutputError where the disk takes no more."""
        with self._lock:
            self._waiting += record
            self._bounds.append(self._bounds[-1] + len(record))
            if len(self._waiting) >= (self._in_memory if self._file is None else _READ):
                self._flush()

    def __getitem__(self, number: int) -> bytes:
        return self._between(self._bounds[number], self._bounds[number + 1])

    def __iter__(self) -> Iterator[bytes]:
        return self.read()

    def read(self, first: int = 0) -> Iterator[bytes]:
        """The records in order from the number `first` on, those too that are appended meanwhile."""
        while first < len(self):
            last = first + 1
            while last < len(self) and self._bounds[last + 1] - self._bounds[first] <= _READ:
                last += 1
            start = self._bounds[first]
            block = self._between(start, self._bounds[last])
            for number in range(first, last):
                yield block[self._bounds[number] - start : self._bounds[number + 1] - start]
            first = last

    def _between(self, start: int, end: int) -> bytes:
        with self._lock:
            if start >= self._written:
                return bytes(self._waiting[start - self._written : end - self._written])
            file = self._file if end <= self._written and self._file else self._flush()
        parts = []
        while start < end:
            part = os.pread(file.fileno(), end - start, start)
            if not part:
                raise OSError(f"a temporary file ends at byte {start}, before its record does at {end}")
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _flush(self) -> BinaryIO:
        with files.writing(_folder() / "the temporary file of rows"):
            file = self._file or self._opened()
            left = memoryview(bytes(self._waiting))
            while left:
                left = left[file.write(left) :]
            self._file = file
            self._written += len(self._waiting)
            self._waiting = bytearray()
        return file

    def _opened(self) -> BinaryIO:
        """A file that is closed, and so gone, with the last reference to the spool."""
        file = tempfile.TemporaryFile(buffering=0, dir=_folder())  # noqa: SIM115  it stays open
        weakref.finalize(self, file.close)
        return file


def _folder() -> Path:
    """Where large temporary files go."""
    large = Path("/var/tmp")  # noqa: S108  the place that the Filesystem Hierarchy Standard gives for them
    asked = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return large if not asked and os.access(large, os.W_OK) else Path(tempfile.gettempdir())
