"""Between a worker and a training's process: the training ends when its worker does.

    guard.py PATIENCE GRACE COMMAND...

The worker holds the other end of stdin and writes a `b` (beat) for as long as its lease is good. No byte for PATIENCE
seconds, the end of the pipe (the worker is gone), or a `t`: the command gets SIGTERM, writes its checkpoint, and after
GRACE seconds SIGKILL. A `k`: SIGKILL at once. SIGKILL goes to the command's whole process group. The guard ends with
the command's exit code, 128 + N for signal N.

It is started by its path and imports no package: it shall be small, and start at once.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

_TICK = 0.1
_PR_SET_PDEATHSIG = 1


def _in_child() -> None:
    """Signals as usual, and on Linux SIGKILL when the guard dies. Elsewhere the worker's kill reaches the tree."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Watch:
    """One command, and why it is to stop."""

    def __init__(self, command: list[str], patience: float, grace: float):
        self._patience, self._grace = patience, grace
        self._heard = time.monotonic()
        self._kill_at: float | None = None
        self._pipe_open = True
        self._process = subprocess.Popen(  # noqa: S603  # the worker's own argument list
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_in_child,  # noqa: PLW1509  # no thread
        )

    def run(self) -> int:
        """Until the command ends; its exit code."""
        while self._process.poll() is None:
            self._listen()
            now = time.monotonic()
            if now - self._heard > self._patience:
                self._stop()
            if self._kill_at is not None and now >= self._kill_at:
                self._signal_group(signal.SIGKILL)
        self._signal_group(signal.SIGKILL)  # what it started and left behind
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def _listen(self) -> None:
        if not self._pipe_open:
            time.sleep(_TICK)
            return
        if not select.select([0], [], [], _TICK)[0]:
            return
        said = os.read(0, 4096)
        if said:
            self._heard = time.monotonic()
        else:
            self._pipe_open = False
        if b"k" in said:
            self._kill_at = 0.0
        elif b"t" in said or not said:
            self._stop()

    def _stop(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def main(arguments: list[str]) -> int:
    """Watch a command; its exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _Watch(arguments[2:], float(arguments[0]), float(arguments[1])).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
