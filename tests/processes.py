"""Commands as real processes that start quickly: a fork server has everything imported and has computed nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import tiny

PRELOADED = [
    "tunesmith.cli.main", "tunesmith.pipelines.journey", "tunesmith.evaluation.metrics.token_f1", "tiny", "processes",
    "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto", "sklearn", "matplotlib",
]  # fmt: skip
"""What a command imports on its way; the server does it once."""


@dataclass
class Running:
    """A command in a process of its own."""

    process: ForkServerProcess
    log: Path

    def wait(self) -> int:
        """The exit code; -N where signal N ended it."""
        self.process.join(60)
        assert self.process.exitcode is not None, "it does not end"
        return self.process.exitcode

    def kill(self, number: int, when: Callable[[], bool]) -> int:
        """Send a signal as soon as `when` holds; the exit code."""
        until = time.monotonic() + 60
        while not when():
            assert self.process.is_alive(), f"it ended before the signal:\n{self.said()}"
            assert time.monotonic() < until
            time.sleep(0.001)
        assert self.process.pid
        os.kill(self.process.pid, number)
        return self.wait()

    def said(self) -> str:
        """Its stdout and stderr."""
        return self.log.read_text("utf-8")


def _command(arguments: list[str], log: str) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["tunesmith", *arguments]
    from tunesmith.cli.main import main

    main()


def start(log: Path, *arguments: object) -> Running:
    """Start a command line as a process; its words go to `log`."""
    os.environ.update(tiny.ENVIRONMENT)  # one thread: forking and equal sums both need it
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_command, args=([str(a) for a in arguments], str(log)))
    process.start()
    return Running(process, log)


def require_killed_and_resumed_equals(
    whole: Path, recipe: Path, folder: Path, *, steps: int, result: str = "adapter/adapter_model.safetensors"
) -> None:
    """Run the recipe again, kill it after so many steps, resume it: it ends in the bytes of the run `whole`."""
    again = folder / "run"

    def in_the_middle() -> bool:
        try:
            return (again / "metrics.jsonl").read_bytes().count(b'"learning_rate"') >= steps
        except FileNotFoundError:
            return False

    first = start(folder / "first", "run", recipe, "--out", again)
    assert first.kill(signal.SIGKILL, in_the_middle) == -signal.SIGKILL
    assert not (again / result).exists()
    second = start(folder / "second", "run", recipe, "--out", again, "--resume")
    assert second.wait() == 0, second.said()
    assert "resumed after step" in second.said()
    assert tiny.sha256(again / result) == tiny.sha256(whole / result)
    assert (again / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()
