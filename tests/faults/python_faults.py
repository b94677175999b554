"""What fault_shim.c does, as far as Python can see it: for machines without a C compiler.

Opens for writing, renames, new folders and removals come through Python's audit events, fsync through a wrapper. Not
seen are the writes themselves and what Rust does; the process cannot be killed in the middle of a call or behind it.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any

COUNT, ONCE, ALWAYS, TORN, BEFORE, AFTER, GONE, STOP = range(8)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
EVENTS = {"os.rename": "rename", "os.mkdir": "mkdir", "os.remove": "unlink", "os.rmdir": "rmdir"}
FOLDER_ARGUMENT = {"os.rename": 3, "os.mkdir": 2, "os.remove": 1, "os.rmdir": 1}


class Hook:
    """Takes the place of the shim in the fork server; the calls lie in memory shared with the children."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1 << 20)

    def arm(self, folder: str, at: int, mode: int, error: int) -> None:
        """From now on count changes below `folder`; at change `at` do `mode`, a failure being `error`."""
        self._folder, self._at, self._mode, self._error = folder, at, mode, error
        self._calls: list[tuple[str, str]] = []
        self._busy = False
        self._store()
        sync = os.fsync

        def fsync(handle: Any) -> None:
            self._change("fsync", handle if isinstance(handle, int) else handle.fileno(), "")
            sync(handle)

        os.fsync = fsync
        sys.addaudithook(self._event)

    def calls(self) -> list[tuple[str, str]]:
        """(call, path below the folder) of every change counted since the last `arm`."""
        self._shared.seek(0)
        return [tuple(call) for call in json.loads(self._shared.readline() or b"[]")]

    def _store(self) -> None:
        self._shared.seek(0)
        self._shared.write(json.dumps(self._calls).encode() + b"\n")

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy:
            return
        if event == "open" and arguments[2] & WRITING and isinstance(arguments[0], str):
            self._change("open", -1, arguments[0])
        elif event in EVENTS:
            name = arguments[1] if event == "os.rename" else arguments[0]
            self._change(EVENTS[event], arguments[FOLDER_ARGUMENT[event]], os.fspath(name))

    def _change(self, call: str, at: int, name: str) -> None:
        self._busy = True
        try:
            whole = name if name.startswith("/") else os.path.join(self._seen_from(at), name).rstrip("/")  # noqa: PTH118
            if whole != self._folder and not whole.startswith(self._folder + "/"):
                return
            self._calls.append((call, whole[len(self._folder) :]))
            self._store()
            number = len(self._calls)
            if self._mode == BEFORE and number == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
            if (self._mode == ONCE and number == self._at) or (self._mode == ALWAYS and 0 < self._at <= number):
                raise OSError(self._error, os.strerror(self._error))
        finally:
            self._busy = False

    @staticmethod
    def _seen_from(at: int) -> str:
        return str(Path(f"/proc/self/fd/{at}" if at >= 0 else "/proc/self/cwd").readlink())
