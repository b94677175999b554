"""This machine and its processes: who is alive, told apart from another process that got its number."""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Process:
    """A process for good: machine, boot, number and start time."""

    host: str
    boot: str
    pid: int
    started: float

    @staticmethod
    def of(pid: int | None = None) -> Process:
        """This process, or another of this machine. psutil.NoSuchProcess."""
        pid = os.getpid() if pid is None else pid
        return Process(platform.node(), boot(), pid, psutil.Process(pid).create_time())

    @property
    def here(self) -> bool:
        """Whether it ran on this machine since it was started."""
        return (self.host, self.boot) == (platform.node(), boot())

    def alive(self) -> bool:
        """Whether it still runs; only of one that is `here`. One that waits to be reaped does not."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid)
            return abs(found.create_time() - self.started) < 1.0 and _runs(found)
        return False

    def kill(self, *, after: float = 0.0, patience: float = 10.0) -> None:
        """End it and all that it started, unless it ends by itself within `after` seconds; back when they are gone."""
        if not self.here:
            return
        until = time.monotonic() + after
        while self.alive() and time.monotonic() < until:
            time.sleep(0.05)
        if not self.alive():
            return
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            root.suspend()  # so that it starts nothing while its children are listed
            found = [*root.children(recursive=True), root]
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            until = time.monotonic() + patience
            while any(_runs(process) for process in found) and time.monotonic() < until:
                time.sleep(0.02)  # psutil's own waiting would take a child's exit code away from who started it


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def boot() -> str:
    """What tells this boot of the machine from others: process numbers begin again with each."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{psutil.boot_time():.0f}"
