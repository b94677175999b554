"""A process that has imported everything and forks a child for each command line: a command costs what it computes.

Run as a script. It takes one JSON object a line on stdin (see `Order` in faulty.py) and answers each with one.
The child arms the fault before its command starts; it ends by the kill or with the command's exit code.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import python_faults

LIMIT_S = 120
"""A command that takes longer is ended by SIGALRM and so seen to hang."""

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


class Calls(ctypes.Structure):
    """One entry of what the shim counted."""

    _fields_ = (("call", ctypes.c_char * 12), ("path", ctypes.c_char * 244))


class Shared(ctypes.Structure):
    """The memory that the shim shares with its children."""

    _fields_ = (("count", ctypes.c_long), ("calls", Calls * 4096))


class Shim:
    """The preloaded library."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.fault_shared.restype = ctypes.POINTER(Shared)
        self._shared = self._library.fault_shared().contents

    def arm(self, folder: str, at: int, mode: int, error: int) -> None:
        """See fault_shim.c."""
        self._library.fault_arm(folder.encode(), ctypes.c_long(at), mode, error)

    def calls(self) -> list[tuple[str, str]]:
        """(call, path below the folder) of every change counted since the last `arm`."""
        found = self._shared.calls[: min(self._shared.count, len(self._shared.calls))]
        return [(entry.call.decode(), os.fsdecode(entry.path)) for entry in found]


def _enter(pid: int) -> None:
    """Join the user and mount namespaces of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    handles = [(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY), flag) for kind, flag in
               (("user", CLONE_NEWUSER), ("mnt", CLONE_NEWNS))]  # fmt: skip
    for handle, flag in handles:
        if libc.setns(handle, flag):
            raise OSError(ctypes.get_errno(), "setns")


def _command(order: dict[str, Any], faults: Any) -> int:
    """Runs in the child: the command line under the fault, its words in the log."""
    signal.alarm(LIMIT_S)
    if order["namespace"]:
        _enter(order["namespace"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from tunesmith.cli.main import main

    sys.argv = ["tunesmith", *order["arguments"]]
    faults.arm(order["folder"], order["at"], order["mode"], order["error"])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _child(order: dict[str, Any], faults: Any) -> None:
    code = 70
    try:
        code = _command(order, faults)
        if order["modules"]:
            Path(order["modules"]).write_text("\n".join(sys.modules), "utf-8")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Answer orders until stdin ends."""
    shim = Shim() if "LD_PRELOAD" in os.environ else None
    hook = python_faults.Hook()
    for line in sys.stdin:
        order = json.loads(line)
        faults = hook if order.get("in_python") or not shim else shim
        for name in order.get("imports", ()):
            try:
                import_module(name)
            except ImportError:  # made while running, by no file of that name
                continue
        if order["arguments"]:
            pid = os.fork()
            if pid == 0:
                _child(order, faults)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            answer = {"code": code, "calls": faults.calls() if order["trace"] else []}
        else:
            answer = {"code": 0, "calls": []}
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()


if __name__ == "__main__":
    main()
