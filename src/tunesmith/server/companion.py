"""The worker beside a server: started in a session of its own, adopted when it is there, started again when it died.

It is no part of the server: a server that is killed leaves it at work, and the next one finds it by its record.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

from ..core import files
from ..jobs.workers import Known
from .services import Services

log = logging.getLogger("tunesmith.server")

LOG = "worker.log"
_LOOK_SECONDS = 1.0
_STARTS_IN = 60.0
"""Seconds that a worker may take until it is known."""


class Companion:
    """Sees that one worker of this machine is alive while the server is."""

    def __init__(self, services: Services):
        self._services = services
        self._child: subprocess.Popen[bytes] | None = None
        self._started, self._failures = 0.0, 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def begin(self) -> Known | None:
        """The worker that is adopted; None where one was started."""
        found = self.alive()
        if found is None:
            self._start()
        self._thread.start()
        return found

    def end(self) -> int | None:
        """Stop looking after it. One with nothing to do is told to end; else its number, for it goes on."""
        self._stopping.set()
        self._thread.join()
        found = self.alive()
        if found is None:
            if self._child and self._child.poll() is None:  # too young to be known
                self._child.terminate()
                self._child.wait()
            return None
        counts = self._services.queue.counts()
        if any(counts.get(status) for status in ("validating_files", "queued", "running", "pausing")):
            return found.process.pid
        os.kill(found.process.pid, 15)
        if self._child and self._child.pid == found.process.pid:
            self._child.wait()
        return None

    def alive(self) -> Known | None:
        """The worker of this machine and database, if there is one."""
        workers = self._services.workers.known()
        return next((worker for worker in workers if worker.process.here and worker.alive), None)

    def _keep(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            try:
                self._look()
            except Exception:
                log.exception("cannot look after the worker; trying again")

    def _look(self) -> None:
        if self._child and self._child.poll() is not None:
            log.warning("the worker ended with %s; its words are in %s", self._child.returncode, self._place)
            self._child = None
        young = self._child is not None and time.monotonic() < self._started + _STARTS_IN
        if self.alive() is not None:
            self._failures = 0
        elif not young and time.monotonic() > self._started + min(60.0, 2.0**self._failures):
            self._failures += 1
            self._start()

    @property
    def _place(self) -> str:
        return str(self._services.settings.home / LOG)

    def _start(self) -> None:
        settings = self._services.settings
        environment = {**os.environ, "TUNESMITH_HOME": str(settings.home)}
        command = [sys.executable, "-m", "tunesmith", "worker"]
        if settings.database:
            environment["TUNESMITH_DATABASE"] = settings.database
        with files.writing(settings.home / LOG), (settings.home / LOG).open("ab") as words:
            self._child = subprocess.Popen(  # noqa: S603 - our own interpreter
                command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment, cwd=settings.home,
                start_new_session=True,
            )  # fmt: skip
        self._started = time.monotonic()
