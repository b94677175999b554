"""Text of HTML and PDF files through a process of its own, which a file may break without breaking anything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer
from types import TracebackType
from typing import Any

from ..core.errors import TunesmithError

MEMORY = 2 << 30
"""Bytes of address space that the process may take."""
SECONDS = 60.0
"""How long one file may take."""
_COMMAND = [sys.executable, "-m", f"{__package__}.extract_worker"]


@dataclass(frozen=True)
class Extracted:
    """A file's text, and where in it each page begins (none of a file that has no pages); or why there is none."""

    text: str = ""
    pages: tuple[int, ...] = ()
    reason: str | None = None


class Extractor:
    """Reads one file after another. The process begins with the first one; use it as a context manager."""

    def __init__(self, seconds: float = SECONDS):
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Extractor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, path: Path) -> Extracted:
        """The text of an HTML or PDF file."""
        process = self._process or self._begun()
        late = Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = Timer(self._seconds, stop)
        timer.start()
        try:
            line = self._answer(process, path)
        finally:
            timer.cancel()
        if late.is_set() or not line:
            self._end()
        if line:
            told = json.loads(line)
            return Extracted(told.get("text", ""), tuple(told.get("pages", ())), told.get("reason"))
        if late.is_set():
            return Extracted(reason=f"reading it takes more than {self._seconds:g} seconds")
        return Extracted(reason=f"reading it ends the reader: it may take more than {MEMORY >> 30} GB of memory")

    def _answer(self, process: subprocess.Popen[str], path: Path) -> str:
        """One line; none where the process ended."""
        requests, answers = _pipes(process)
        try:
            requests.write(json.dumps(str(path.absolute())) + "\n")
            requests.flush()
            return str(answers.readline())
        except BrokenPipeError:
            return ""

    def _begun(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter
                _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                encoding="utf-8", env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise TunesmithError("cannot start a process to read HTML and PDF", why=str(error)) from error
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
            for pipe in _pipes(process):
                with suppress(BrokenPipeError):
                    pipe.close()


def _pipes(process: subprocess.Popen[str]) -> tuple[Any, Any]:
    return process.stdin, process.stdout
