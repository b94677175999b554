"""A watchdog for a training that hangs: no step for long, and every thread's stack is written."""

from __future__ import annotations

import faulthandler
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .config import GuardSpec
from .guards import EXIT_CODES

HANG_FACTOR = 10.0


class Watchdog:
    """Notices that no step has come for long.

    It counts its own ticks, not the clock: a process that was stopped or a machine that slept does not look hung.
    """

    def __init__(self, spec: GuardSpec, folder: Path, note: Callable[[str], None], tick: float = 1.0):
        self._spec, self._folder, self._note, self._tick = spec, folder, note, tick
        self._usual: list[float] = []
        self._quiet = 0
        self._held = 0
        self._reported = False
        self._end = threading.Event()

    def beat(self, seconds: float) -> None:
        """A step of this length is done."""
        self._usual = [*self._usual[-20:], seconds]
        self.alive()

    def alive(self) -> None:
        """Something other than a step is done, and the work goes on."""
        self._quiet, self._reported = 0, False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block no time counts: for work whose length says nothing about a hang."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.alive()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch inside the block."""
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _watch(self) -> None:
        while not self._end.wait(self._tick):
            self._quiet += not self._held
            if not self._reported and self._quiet * self._tick >= self._limit():
                self._reported = True
                self._report()

    def _limit(self) -> float:
        usual = statistics.median(self._usual) if self._usual else 0.0
        return max(HANG_FACTOR * usual, 60.0 * self._spec.hang_minutes)

    def _report(self) -> None:
        path = self._folder / f"hang-{os.getpid()}-{time.strftime('%Y%m%dT%H%M%S')}.txt"
        try:
            with path.open("w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError as error:
            self._note(f"no step for {self._limit():.0f} s, and the stacks could not be written: {error}")
        else:
            self._note(f"no step for {self._limit():.0f} s; what every thread was doing stands in {path}")
        if self._spec.hang == "stop":
            os._exit(EXIT_CODES[signal.SIGTERM])  # the main thread may be deaf to anything milder
