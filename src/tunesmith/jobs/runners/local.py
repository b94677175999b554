"""Trainings as processes on this machine, each below a guard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ...core import files
from .. import folders, told
from ..machine import Process
from ..model import Job, Metric
from .base import Ended, How

_GUARD = Path(__file__).with_name("guard.py")
_PROCESS, _LOG = "process-{}.json", "log.txt"
_LEFT_ALONE = 5.0
"""Seconds that a training gets to save its state when its worker was lost."""
_SAID = 4000
"""Characters of last words kept."""
_HOW: dict[int, How] = {
    0: "done", 10: "done", 75: "interrupted", 76: "interrupted", 130: "interrupted", 143: "interrupted",
    2: "refused", 3: "refused", 4: "refused",
}  # fmt: skip
"""What exit codes mean (10: the gate said no, which the model carries). Any other is "broken"."""

Command = Callable[[Job, Path, Path], Sequence[str]]
"""(job, its folder, its run's folder) to an argument list."""


def tunesmith_run(job: Job, folder: Path, run: Path) -> Sequence[str]:
    """`tunesmith run`, going on where the run's folder has a checkpoint."""
    recipe = folders.newest_input(folder) / "recipe.yaml"
    return (sys.executable, "-m", "tunesmith", "run", str(recipe), "--out", str(run), "--resume", "--quiet")


class LocalRunner:
    """Starts a command for each job."""

    def __init__(self, command: Command = tunesmith_run, *, patience: float = 60.0, grace: float = 30.0):
        self._command, self._patience, self._grace = command, patience, grace

    def start(self, job: Job, folder: Path, run: Path) -> LocalRunning:
        """The command below a guard, in a session of its own; its words go to `log.txt` of the job's folder."""
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(self._patience), str(self._grace)]
        with (folder / _LOG).open("ab") as log:
            begin = log.tell()
            process = subprocess.Popen(  # noqa: S603  # no shell, and nothing of a client's is in the list
                [*guard, *self._command(job, folder, run)], stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True, bufsize=0, cwd=folder, env=_environment(),
            )  # fmt: skip
        with suppress(Exception):  # it may have ended already
            files.write_json(folder / _PROCESS.format(job.fence), vars(Process.of(process.pid)))
        return LocalRunning(process, folder / _LOG, begin, run)

    def reclaim(self, folder: Path, fence: int) -> None:
        """Those of this machine: a guard whose worker is gone gets its training to save its state; if that takes too
        long, all of them are killed."""
        for file in folder.glob(_PROCESS.format("*")):
            if int(file.stem.partition("-")[2]) >= fence:
                continue
            with suppress(FileNotFoundError, ValueError, TypeError):
                process = Process(**json.loads(file.read_text("utf-8")))
                process.kill(after=_LEFT_ALONE)
            file.unlink(missing_ok=True)


class LocalRunning:
    """A process under way."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, begin: int, run: Path):
        self._process, self._log, self._begin, self._run = process, log, begin, run
        self._steps = told.Steps(run / "metrics.jsonl")
        self._total: int | None = None

    def steps(self) -> list[Metric]:
        """From `metrics.jsonl`."""
        found = self._steps.read(to_the_end=self._process.poll() is not None)
        total = self.total_steps() if found else None
        return [told.metric(figures, total) for figures in found]

    def total_steps(self) -> int | None:
        """From `run.json`, where the training writes it at its start."""
        if self._total is None:
            with suppress(OSError, ValueError):
                self._total = json.loads((self._run / "run.json").read_text("utf-8")).get("planned_steps")
        return self._total

    def ended(self) -> Ended | None:
        """By the exit code."""
        code = self._process.poll()
        if code is None:
            return None
        self._close()
        return Ended(_HOW.get(code, "broken"), self._last_words())

    def beat(self) -> None:
        """A byte to the guard."""
        self._say(b"b")

    def interrupt(self) -> None:
        """SIGTERM by the guard."""
        self._say(b"t")

    def kill(self) -> None:
        """SIGKILL by the guard, and by hand for a guard that does not listen."""
        self._say(b"k")
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            with suppress(Exception):
                Process.of(self._process.pid).kill()
            self._process.wait()
        self._close()

    def _say(self, word: bytes) -> None:
        with suppress(OSError, ValueError):  # it ended meanwhile: `ended` tells
            if self._process.stdin:
                self._process.stdin.write(word)

    def _close(self) -> None:
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()

    def _last_words(self) -> str:
        with suppress(OSError), self._log.open("rb") as file:
            file.seek(max(self._begin, file.seek(0, os.SEEK_END) - _SAID))
            return file.read().decode("utf-8", "replace").strip()
        return ""


def _environment() -> dict[str, str]:
    """Ours, without what is meant for this process alone."""
    return {**os.environ, "NO_COLOR": "1", "TOKENIZERS_PARALLELISM": "false"}
