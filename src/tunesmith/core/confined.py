"""The other side of the sandbox: confines its own process, runs the code it was given, says how that ended.

Started by `sandbox.run` in a process of its own; reads its orders as JSON from standard input.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import traceback
from contextlib import suppress
from typing import Any

from tunesmith.core import landlock, mounts, seccomp

_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000
"""User, network, IPC, host name."""
DEVICES = ("/dev/null", "/dev/urandom", "/dev/random")


def main() -> None:
    """Confine, report on the first descriptor named in the orders, run, report the result on the second."""
    orders = json.load(sys.stdin.buffer)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    status, result = orders["status"], orders["result"]
    try:
        _confine(orders)
    except OSError as error:
        os.write(status, f"refused: {error.strerror}".encode())
        os._exit(0)
    os.write(status, b"ready")
    os.close(status)
    sys.path[:] = orders["paths"]
    space: dict[str, Any] = {"__name__": "__main__", "data": orders["data"]}
    try:
        for name, code in orders["parts"]:
            exec(compile(code, name, "exec"), space)  # noqa: S102 - what this process is for
    except MemoryError:
        _leave("memory", result, None)
    except BaseException:
        traceback.print_exc()
        _leave("failed", result, None)
    _leave("finished", result, space.get("result"))


def _confine(orders: dict[str, Any]) -> None:
    """For good, whatever runs from here on. OSError where seccomp is not there, or neither of Landlock and a mount
    namespace."""
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    own = library.unshare(_NAMESPACES) == 0  # on top where the system allows it
    for kind, limit in (
        (resource.RLIMIT_AS, orders["memory_mb"] << 20), (resource.RLIMIT_CPU, orders["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, orders["file_mb"] << 20), (resource.RLIMIT_NOFILE, orders["descriptors"]),
        (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        resource.setrlimit(kind, (limit, limit))
    library.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL: ends with the process that started it
    library.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which Landlock asks for
    scratch = [orders["scratch"]] if orders["scratch"] else []
    files = [*orders["readable"], *DEVICES], ["/dev/null"], scratch
    try:
        truncation = landlock.restrict(*files)
    except OSError:
        if own:
            mounts.map_ids(user, group)
        mounts.restrict(*files)
        truncation = True  # of what is mounted read-only nothing can be cut
    seccomp.install(truncation=truncation, threads=orders["threads"], files=bool(scratch))


def _leave(ended: str, result: int, value: object) -> None:
    """Write how it ended and what came of it, and end: what the code left behind does not run on."""
    try:
        text = json.dumps({"ended": ended, "result": value})
    except (TypeError, ValueError, RecursionError) as error:
        text = json.dumps({"ended": "failed", "result": None})
        sys.stderr.write(f"the result is no JSON: {error}\n")
    raw = text.encode()
    while raw:
        raw = raw[os.write(result, raw) :]
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the code may have closed or replaced them
            stream.flush()
    os._exit(0 if ended == "finished" else 1)


if __name__ == "__main__":
    main()
