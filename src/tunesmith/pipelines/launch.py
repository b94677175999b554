"""Several processes of one command on this machine, as torchrun would start them, with the command's own exit codes.

For many machines use torchrun itself; see docs/scale.md. Loads no torch.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from ..core.errors import InterruptedRunError, ShortageError

INTERRUPTED = (75, 130)
"""Exit codes of a process that a signal, or the loss of another process, has stopped."""
SHORT = ShortageError.exit_code
"""Exit code of a process that found no memory while the others waited for it."""
GRACE_SECONDS = 30.0
"""How long the others may go on when one process has ended; then they are told to stop, then killed."""


def launch(arguments: Sequence[str], processes: int, say: Callable[[str], None] = lambda _: None) -> int:
    """Run `tunesmith ARGUMENTS` in so many processes; their common exit code.

    An error of one process is what all of them failed by: the others ended with 75 because it left them, and resuming
    would only bring it back. InterruptedRunError (exit 75) when a process was killed: the run can be resumed.
    Where one ran out of memory and the others could not be told, it is said and all start again, with --resume.
    """
    codes, stopped = _once(arguments, processes)
    again = [*(word for word in arguments if word != "--resume"), "--resume"]
    while SHORT in codes and not stopped and all(code < 0 or code in (SHORT, *INTERRUPTED) for code in codes):
        say("a process ran out of memory: all start again from the newest checkpoint, with smaller micro-batches")
        codes, stopped = _once(again, processes)
    return _common(codes)


def _once(arguments: Sequence[str], processes: int) -> tuple[list[int], bool]:
    """The exit codes of so many processes, by rank, and whether a signal asked them to stop."""
    port = _free_port()
    started = [_start(arguments, rank, processes, port) for rank in range(processes)]
    with _passing_signals_on(started) as passed:
        codes = _wait(started)
    return codes, bool(passed)


def _common(codes: Sequence[int]) -> int:
    """One exit code for all processes."""
    if errors := [code for code in codes if code > 0 and code not in INTERRUPTED]:
        return errors[0]
    if codes[0] >= 0 and (codes[0] or not any(codes)):
        return codes[0]
    if killed := [rank for rank, code in enumerate(codes) if code < 0]:
        raise InterruptedRunError(
            f"process {killed[0]} of {len(codes)} was killed (signal {-codes[killed[0]]})",
            mend="run the same command with --resume",
        )
    return next(code for code in codes if code)


def _start(arguments: Sequence[str], rank: int, processes: int, port: int) -> subprocess.Popen[bytes]:
    cores = len(os.sched_getaffinity(0))
    environment = {
        "OMP_NUM_THREADS": str(max(1, cores // processes)),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TUNESMITH_LAUNCHED": "1",
    }
    # Ctrl-C reaches a whole group of processes; only this one shall pass it on, once.
    command = [sys.executable, "-m", "tunesmith", *arguments]
    return subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603 - our own interpreter


@contextmanager
def _passing_signals_on(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Signals inside the block go to the processes, and into the list."""
    passed: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        passed.append(number)
        for process in started:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Exit codes by rank; once one process has ended badly, the others get a time to end by themselves."""
    deadline = float("inf")
    told = False
    while (codes := [process.poll() for process in started]).count(None):
        if deadline == float("inf") and any(codes):
            deadline = time.monotonic() + GRACE_SECONDS
        if time.monotonic() > deadline:
            for process in started:
                process.kill() if told else process.terminate()
            told, deadline = True, time.monotonic() + GRACE_SECONDS
        time.sleep(0.05)
    return [code for code in codes if code is not None]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
