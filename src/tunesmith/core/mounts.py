"""A root of its own for a process, with nothing in it but what it may read: where Landlock is not offered.

A mount namespace (mount_namespaces(7)) with a small file system in memory, into which the files and folders are bound
read-only. The old root is let go of, and there is no /proc.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

_NEW = 0x00020000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""Flags of statvfs that a mount has, and how mount(2) calls them: one that is there may not be taken away."""
_ROOT = "/proc"
"""Where the new root is made: a folder that every system has, and that the process is not to see."""
_PIVOT = {"x86_64": 155, "aarch64": 41}
_DETACH = 2


def restrict(readable: Iterable[str], writable: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
    """Confine this process to these files. Call it in a user namespace whose ids are mapped, or as root.

    Absent paths are left out. OSError where the system does not allow it.
    """
    library = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(library, name)(*arguments):
            raise OSError(ctypes.get_errno(), "a mount namespace is not offered")

    def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
        names = [None if text is None else text.encode() for text in (source, target, kind, options)]
        call("mount", *names[:3], ctypes.c_ulong(flags), names[3])

    def close(target: str) -> None:
        has = os.statvfs(target).f_flag
        kept = sum(flag for bit, flag in _KEPT.items() if has & bit)
        mount(None, target, None, _BIND | _REMOUNT | _READ_ONLY | kept)

    points = _mount_points()
    call("unshare", _NEW)
    mount(None, "/", None, _RECURSIVE | _PRIVATE)
    sources = [(path, True) for path in readable] + [(path, False) for path in (*writable, *folders)]
    there = [(os.path.realpath(path), path, closed) for path, closed in sources if os.path.exists(path)]  # noqa: PTH110
    mount("tmpfs", _ROOT, "tmpfs", _NO_SUID | _NO_DEVICES, "size=1m,mode=755")
    for source, path, closed in there:
        target = _ROOT + path
        _make(target, folder=os.path.isdir(source))  # noqa: PTH112
        mount(source, target, None, _BIND | _RECURSIVE)
        for inside in ["", *(point.removeprefix(source) for point in points if point.startswith(f"{source}/"))]:
            if closed:  # what is mounted further in comes along, and is to be closed by itself
                close(target + inside)
    os.chdir(_ROOT)
    call("syscall", _PIVOT[os.uname().machine], b".", b".")
    call("umount2", b".", _DETACH)
    os.chdir("/")
    mount(None, "/", None, _BIND | _REMOUNT | _READ_ONLY | _NO_SUID | _NO_DEVICES)


def map_ids(user: int, group: int) -> None:
    """In a new user namespace: the ids that the process had outside are 0 inside, and no others are there."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - as quick as can be
            file.write(text)


def _mount_points() -> list[str]:
    """Where something is mounted now."""
    with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123
        places = [line.split()[4] for line in file]
    return [place.decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape") for place in places]


def _make(target: str, *, folder: bool) -> None:
    """A folder or an empty file to bind to, where there is none."""
    if os.path.exists(target):  # noqa: PTH110
        return
    os.makedirs(target if folder else os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    if not folder:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
