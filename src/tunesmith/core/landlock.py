"""Landlock: a process gives up all files but those that it names, for good. Linux 5.13 and newer (landlock(7)).

Reading the memory, the environment and the descriptors of processes outside (ptrace and /proc) goes with it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION, _BENEATH = 1, 1
_WRITE, _READ, _LIST, _CUT = 1 << 1, 1 << 2, 1 << 3, 1 << 14
_MAKE = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8
"""Deleting folders and files, making folders and regular files."""
_SAFE_TRUNCATION = 3
"""The version from which on opening a file to cut it is an access of its own."""


def restrict(readable: Iterable[str], writable: Iterable[str] = (), folders: Iterable[str] = ()) -> bool:
    """Confine this process to reading below `readable`, writing the files `writable`, and making and deleting files
    below `folders`. Absent paths are left out.

    Whether truncation is covered too. OSError where the system does not offer Landlock.
    """
    library = ctypes.CDLL(None, use_errno=True)

    def call(*arguments: object) -> int:
        result = int(library.syscall(*arguments))
        if result < 0:
            raise OSError(ctypes.get_errno(), "Landlock is not offered")
        return result

    version = call(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    net, scope = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    handled = struct.pack("=QQQ", files, net, scope)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = call(_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    file = _READ | _WRITE | _CUT
    for paths, access in ((readable, _READ | _LIST), (writable, file), (folders, file | _LIST | _MAKE)):
        for path in paths:
            _allow(call, ruleset, path, access & files)
    call(_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return version >= _SAFE_TRUNCATION


def _allow(call: Callable[..., int], ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):  # noqa: PTH112 - no pathlib: this process is to start quickly
        access &= ~_LIST
    call(_ADD, ruleset, _BENEATH, struct.pack("=Qi", access, place), 0)
    os.close(place)
